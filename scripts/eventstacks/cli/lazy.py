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

import sys
import threading
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.RLock()  # one for all: two modules that use each other cannot block two threads


class _LazyModule(ModuleType):
    """A module that is loaded when an attribute is first used."""

    def __getattribute__(self, name: str) -> Any:
        with _lock:
            state = ModuleType.__getattribute__(self, "__spec__").loader_state
            if execute := state.pop("execute", None):  # once: the code itself uses the module, too
                execute(self)
                self.__class__ = ModuleType  # type: ignore[assignment]
        return ModuleType.__getattribute__(self, name)


class _LazyFinder(PathFinder):
    """Find modules of this package; packages (``__init__``) are loaded at once."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        is_ours = fullname.startswith("eventstacks.")
        spec = PathFinder.find_spec(fullname, path, target) if is_ours else None
        if spec and spec.loader and not spec.submodule_search_locations:
            spec.loader_state = {"execute": spec.loader.exec_module}
            spec.loader.exec_module = _make_lazy  # type: ignore[method-assign]
        return spec


def _make_lazy(module: ModuleType) -> None:
    module.__class__ = _LazyModule


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Delay the loading of this package's modules that are imported in the block."""
    sys.meta_path.insert(0, _LazyFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(_LazyFinder)
