"""Files of the docs that are made from what they are about: written where they differ, or only compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eventstacks import documents

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


REMEDY = "make docs"  # for all of them: it draws, too


def settle(pages: Mapping[Path, str], *, check: bool) -> int:
    """Writes what is not as it should be, or with ``check`` says so and what to do about it; gives the exit code."""
    stale = [
        path
        for path, text in pages.items()
        if not path.exists() or documents.read_text(path) != text
    ]
    for path in stale:
        if check:
            found = "not what it is made from" if path.exists() else "missing"
            click.echo(f"{path}: {found}; run `{REMEDY}`", err=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages[path], encoding="utf-8")
            print(f"{path}  written")
    return int(check and bool(stale))


def read(path: Path) -> str:
    """The page as it is, or the beginning of a new one."""
    return documents.read_text(path) if path.exists() else f"# {path.stem}\n"
