"""The OpenAPI description: FastAPI's, with the definitions of bodies moved to the components and the keys described."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from facetrail.app.shapes import ProblemShape

DESCRIPTION = """Search over your own documents: by words (BM25), by meaning (dense vectors) or both, with filters,
explanations and paging; recommendations, and answers with checked citations. Errors are RFC 9457 problem documents.
Where keys are configured, every route under `/v1` takes one, as `Authorization: Bearer KEY` or `X-API-Key: KEY`."""


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application; made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas[ProblemShape.__name__] = ProblemShape.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for operations in document["paths"].values():
            for operation in operations.values():
                _hoist(operation, schemas)
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["security"] = [{}, {"bearer": []}, {"header": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _hoist(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = body.get("schema")
    if schema is None or "title" not in schema:
        return
    schemas.update(schema.pop("$defs", {}))
    schemas[schema["title"]] = schema
    body["schema"] = {"$ref": f"#/components/schemas/{schema['title']}"}
