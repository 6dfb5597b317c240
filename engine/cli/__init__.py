"""The command line: one command, one call of the library. `firstsight` and `python -m engine` are the same."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from keyword import iskeyword
from typing import Annotated, Final, NoReturn

import typer
from PIL import Image
from typer.exceptions import TyperException

from engine.cli import display
from indexer.errors import ArgumentError, FirstsightError

COMMANDS: Final = {
    "demo": "learning",
    "index": "gallery",
    "recognize": "gallery",
    "search": "gallery",
    "learn": "gallery",
    "forget": "upkeep",
    "rename": "upkeep",
    "set": "attributes",
    "show": "attributes",
    "undo": "upkeep",
    "log": "upkeep",
    "diff": "revisions",
    "compact": "revisions",
    "status": "upkeep",
    "failures": "upkeep",
    "verify": "upkeep",
    "export": "exchange",
    "import": "exchange",
    "merge": "exchange",
    "upgrade": "upgrading",
    "tune": "tuning",
    "train": "learning",
    "evaluate": "evaluation",
}
"""Each command and the module that holds it. Only the one asked for is imported: torch takes seconds."""

INTERRUPTED: Final = 130  # what typer makes of Ctrl-C, as shells do


def command(name: str) -> Callable[..., None]:
    """Return the function of a command; after a word that Python keeps for itself stands an underscore."""
    return getattr(import_module(f"engine.cli.{COMMANDS[name]}"), f"{name}_" if iskeyword(name) else name)


def _app(names: Iterable[str]) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback(help="Recognise things from one picture each.")(_before_any_command)
    for name in names:
        app.command(name=name)(command(name))
    return app


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - no other command needs it, and it takes 30 ms

        display.out.print(f"firstsight {version('firstsight')}")
        raise typer.Exit


def _before_any_command(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Hold the options that are not a command's."""


def main() -> None:
    """Run the command line: exit status 0 done, 1 a refusal, 2 wrong usage; a refusal is one line."""
    # Too many pixels are refused in our own words; Pillow's warning of the same would only come before them.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        asked = sys.argv[1:] or ["--help"]
        app = _app(asked[:1] if asked[0] in COMMANDS else COMMANDS)
        status = app(asked, standalone_mode=False) or 0
    except TyperException as error:
        _refuse(f"{error.format_message()} (see `firstsight --help`)", 2)
    except ArgumentError as error:
        _refuse(str(error), 2)
    except FirstsightError as error:
        _refuse(str(error), 1)
    except OSError as error:
        _refuse(f"{error.filename or 'the system'}: {error.strerror or error}", 1)
    if status == INTERRUPTED:
        _refuse("interrupted; the same command goes on where it was", INTERRUPTED)
    sys.exit(status)


def _refuse(message: str, status: int) -> NoReturn:
    display.err.print(f"firstsight: {message}")
    sys.exit(status)
