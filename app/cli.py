"""The command `facetrail`: mounts every layer's commands by name, and turns errors into sentences and exit codes."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from facetrail.app.errors import exit_code
from facetrail.models.errors import FacetrailError

# By name, not by import: the serving layer must not depend on the layers whose commands it mounts.
COMMANDS = {
    "demo": "facetrail.app.commands:demo",
    "index": "facetrail.indexing.cli:index_app",
    "search": "facetrail.indexing.cli_search:search",
    "recommend": "facetrail.indexing.cli_recommend:recommend",
    "reason": "facetrail.indexing.cli_reason:reason",
    "serve": "facetrail.app.commands:serve",
    "mcp": "facetrail.app.commands:mcp",
    "eval": "facetrail.eval.cli:eval_app",
    "data": "facetrail.eval.cli:data_app",
    "train": "facetrail.training.cli:train_app",
    "experiment": "facetrail.training.cli:experiment_app",
    "model": "facetrail.models.model_cli:model_app",
}


class CommandsByName(TyperGroup):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        target = getattr(importlib.import_module(module), attribute)
        if not isinstance(target, typer.Typer):
            application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            application.command(cmd_name)(target)
            target = application
        command = get_command(target)
        command.name = cmd_name
        return command


app = typer.Typer(cls=CommandsByName, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    """Search, recommendation and reasoning over your documents.

    Exit codes: 0 done, 2 wrong usage or input, 3 damaged data, 4 not found, 5 conflict, 6 a needed part is missing.
    """
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"facetrail {installed('facetrail')}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command; every error a person can cause becomes one sentence on standard error and an exit code."""
    try:
        get_command(app)(list(argv) if argv is not None else None, prog_name="facetrail")
    except FacetrailError as error:
        typer.echo(f"facetrail: {error}", err=True)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left; Python would complain once more at exit
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that may not be written: nobody's bug, and every write is whole
        place = f" at {error.filename}" if error.filename else ""
        typer.echo(
            f"facetrail: the system refused ({error.strerror or error}){place}; make room or check rights", err=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
