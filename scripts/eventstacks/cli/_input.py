"""What verbs read: a file, or stdin."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)


def read(path: Path) -> str:
    """The text of a file, or of stdin for ``-``. Raises ToolError."""
    from eventstacks.errors import ToolError

    try:
        with click.open_file(str(path), encoding="utf-8") as file:
            return str(file.read())
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot be read as UTF-8 text: {error}", where=str(path)) from None
