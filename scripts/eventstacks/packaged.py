"""Locate the files that come with the package: templates, macros, environment files, a schema."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def packaged(path: str) -> Path:
    """Return the location of a packaged file or folder, given its path in the checkout.

    In a checkout (an editable install) that is the file itself; the wheel has a copy in ``_data``.
    """
    data = _PACKAGE / "_data"
    return (data if data.is_dir() else _PACKAGE.parents[1]) / path
