"""Lazy imports, so that ``eventstacks VERB --help`` answers within 0.2 s.

The rule for a module with verbs: import modules of this package at the top, as modules
(``from eventstacks.cloudformation import deploy``). While ``__main__`` loads a verb's module, such
an import is carried out when an attribute of the imported module is first used: in the verb's
function, after ``--help`` has been answered. Import a name (``from … import NAME``) only from
modules that import nothing outside the standard library and click.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _LazyFinder:
    """Find modules of this package; packages (``__init__``) are loaded at once."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith("eventstacks."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader and spec.submodule_search_locations is None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Delay the loading of this package's modules that are imported in the block."""
    finder = _LazyFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
