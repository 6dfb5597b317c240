"""The command line: one command, one call of the library. `firstsight` and `python -m engine` are the same."""

from __future__ import annotations

import sys
import warnings
from typing import Final, NoReturn

import typer
from PIL import Image
from typer.exceptions import TyperException

from engine.cli import display, gallery, learning
from indexer.errors import ArgumentError, FirstsightError

COMMANDS = (
    learning.demo,
    gallery.index,
    gallery.recognize,
    gallery.search,
    gallery.learn,
    gallery.forget,
    gallery.rename,
    gallery.undo,
    gallery.log,
    gallery.status,
    gallery.verify,
    learning.train,
)

INTERRUPTED: Final = 130  # what typer makes of Ctrl-C, as shells do

app = typer.Typer(
    help="Recognise things from one picture each.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line: exit status 0 done, 1 a refusal, 2 wrong usage; a refusal is one line."""
    # Too many pixels are refused in our own words; Pillow's warning of the same would only come before them.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
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
