"""Lazy imports, so that ``eventstacks VERB --help`` answers within 0.2 s.

The rule for a module with verbs: import modules of this package at the top, as modules
(``from eventstacks.cloudformation import deployer``). When ``__main__`` loads it for its help only,
they are never carried out. Import a name (``from … import NAME``) only from modules that import
nothing outside the standard library and click.

Only for help: before Python 3.12.3 a second thread can see a half-loaded module of ``LazyLoader``.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class _LazyFinder(PathFinder):
    """Find modules of this package; packages (``__init__``) are loaded at once."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        is_ours = fullname.startswith("eventstacks.")
        spec = PathFinder.find_spec(fullname, path, target) if is_ours else None
        if spec and spec.loader and not spec.submodule_search_locations:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Delay the loading of this package's modules that are imported in the block."""
    sys.meta_path.insert(0, _LazyFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(_LazyFinder)
