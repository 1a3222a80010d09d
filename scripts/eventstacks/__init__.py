"""Production stacks for event-driven architectures on Amazon EventBridge, and their tools.

``send`` is the public Python API; it is imported on first use, so that commands start fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventstacks.bus.send import send

__all__ = ["__version__", "send"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import a name of the public API (PEP 562)."""
    if name == "send":
        return getattr(import_module("eventstacks.bus.send"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
