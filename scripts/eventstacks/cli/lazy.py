"""Lazy imports, so that ``eventstacks VERB --help`` answers within 0.2 s.

The rule for a module with verbs: import modules of this package at the top, as modules
(``from eventstacks.cloudformation import deployer``). While ``__main__`` loads a verb's module,
such an import is carried out when an attribute of the imported module is first used: in the verb's
function, after ``--help`` has been answered. Import a name (``from … import NAME``) only from
modules that import nothing outside the standard library and click.

``importlib.util.LazyLoader`` is not used: before Python 3.12 a second thread can see a module that
is half loaded.
"""

from __future__ import annotations

import importlib.machinery
import sys
import threading
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec

_lock = threading.RLock()  # one for all: two modules that use each other cannot block two threads


class _LazyModule(ModuleType):
    """A module that is loaded when an attribute is first used."""

    def __getattribute__(self, name: str) -> Any:
        with _lock:
            loader = ModuleType.__getattribute__(self, "__spec__").loader
            if isinstance(loader, _LazyLoader) and not loader.is_loading:
                loader.is_loading = True  # the code that is executed uses the module, too
                try:
                    loader.eager.exec_module(self)
                    self.__class__ = ModuleType  # type: ignore[assignment]
                finally:
                    loader.is_loading = False
        return ModuleType.__getattribute__(self, name)


class _LazyLoader(Loader):
    def __init__(self, eager: Loader) -> None:
        self.eager = eager
        self.is_loading = False

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _LazyModule


class _LazyFinder(MetaPathFinder):
    """Find modules of this package; packages (``__init__``) are loaded at once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("eventstacks."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader and spec.submodule_search_locations is None:
            spec.loader = _LazyLoader(spec.loader)
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
