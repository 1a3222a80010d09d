"""Lint rules for event-driven templates, a plug-in of cfn-lint: one rule a file.

cfn-lint loads each file of a directory whose name begins with a letter, each on its own. Here that is ``plugin.py``
alone, which finds this package: so the names of the others begin with an underscore.
"""

from importlib import import_module
from pathlib import Path

from eventstacks.lint._rule import FlowRule

for _file in sorted(Path(__file__).parent.glob("_[ewi]98*.py")):
    import_module(f"{__name__}.{_file.stem}")
RULES: list[type[FlowRule]] = sorted(
    FlowRule.__subclasses__(), key=lambda one: (str(one.id)[1:], str(one.id))
)
globals().update({one.__name__: one for one in RULES})  # cfn-lint looks for classes in the module
