"""A collection as a server of the Model Context Protocol over standard input and output.

The protocol is the `mcp` package's; the tools are those of `facetrail.app.mcp_tools` and `facetrail.app.mcp_reason`.
What a model got wrong comes back to it as the tool's error, in one sentence that says how to do better. The collection
is only read, so a service may write to it meanwhile; a new index generation is taken up with the next call.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, ToolAnnotations
from mcp.types import Tool as ToolDescription
from pydantic import ValidationError

from facetrail.app.mcp_reason import reason_tool
from facetrail.app.mcp_tools import Tool, instructions_of, tools_of
from facetrail.app.settings import Settings, read_settings
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import FacetrailError, InvalidInput, NotFound

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def serve(folder: Path) -> None:
    """Answers on standard output what is asked on standard input, until that ends.

    The environment says which language model speaks, as for the service. Raises NotFound (no collection there),
    Conflict (not built yet), Damaged and InvalidInput (the environment).
    """
    settings = read_settings()
    with Searcher.open(folder) as searcher:
        anyio.run(_serve, server_of(searcher, settings))


async def _serve(server: Server[Any]) -> None:
    async with stdio_server() as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


def server_of(searcher: Searcher, settings: Settings) -> Server[Any]:
    """The protocol's server over an open collection."""
    tools = {tool.name: tool for tool in (*tools_of(searcher), reason_tool(searcher, settings))}

    async def list_tools(_context: Any, _params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[_described(tool) for tool in tools.values()])

    async def call_tool(_context: Any, params: CallToolRequestParams) -> CallToolResult:
        try:
            return await run_sync(_call, searcher, tools, params.name, params.arguments or {})
        except FacetrailError as error:
            return CallToolResult(content=[TextContent(type="text", text=str(error))], is_error=True)

    return Server(
        "facetrail",
        version=version("facetrail"),
        instructions=instructions_of(searcher),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _described(tool: Tool) -> ToolDescription:
    return ToolDescription(
        name=tool.name,
        description=tool.description,
        input_schema=tool.arguments.model_json_schema(),
        output_schema=tool.answer.model_json_schema(mode="serialization"),
        annotations=READS,
    )


def _call(searcher: Searcher, tools: Mapping[str, Tool], name: str, arguments: Mapping[str, Any]) -> CallToolResult:
    """Runs a tool in a thread. Raises FacetrailError for what the caller can do better."""
    tool = tools.get(name)
    if tool is None:
        raise NotFound(f"there is no tool {name!r}; there are {', '.join(tools)}")
    try:
        given = tool.arguments.model_validate(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"the argument {place!r} of {name} cannot be used: {first['msg']}") from error
    searcher.refresh()
    answer = tool.run(given)
    text = TextContent(type="text", text=answer.model_dump_json())
    return CallToolResult(content=[text], structured_content=answer.model_dump(mode="json"))
