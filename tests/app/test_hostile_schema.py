"""Requests drawn from the OpenAPI description: every answer's status is one that the description names."""

import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings


def test_the_schema_holds_under_fuzzing(lexical_folder: Path, tmp_path: Path, start_process: Any) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs the extra `test`")
    folder = shutil.copytree(lexical_folder, tmp_path / "sample")
    child, port = start_process(
        folder,
        FACETRAIL_LOG_REQUESTS="false",
        FACETRAIL_LANGUAGE_MODEL="http://127.0.0.1:9/v1",
        FACETRAIL_LANGUAGE_MODEL_NAME="none",
    )
    address = f"http://127.0.0.1:{port}"
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    deadline = time.monotonic() + 55
    tried: Counter[str] = Counter()
    for operation in (result.ok() for result in schema.get_all_operations()):

        @seed(1)
        @given(case=operation.as_strategy())
        @settings(
            max_examples=12,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def fuzz(case: Any) -> None:
            if time.monotonic() > deadline:
                return
            response = case.call(base_url=address)
            tried[case.operation.label] += 1
            assert response.status_code < 500 or response.status_code == 503, response.text
            assert str(response.status_code) in case.operation.definition.raw["responses"], (
                response.status_code,
                response.text,
            )
            case.validate_response(response, checks=(schemathesis.checks.not_a_server_error,))

        fuzz()
    assert child.poll() is None
    assert len(tried) == 24, tried
    assert httpx.get(f"{address}/readyz").status_code == 200
