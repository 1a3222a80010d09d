"""The layers of docs/architecture.md: imports go downwards, no file circles, nothing too large."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "scripts" / "eventstacks"
LAYERS = [  # from top to bottom; modules of one group may import each other
    {"__main__", "cli"},
    {"bus"},
    {"lint"},
    {"local"},
    {"cloudformation"},
    {"flow"},
    {"rendering", "environment", "parameter_checks", "aws", "scaffold"},
    {"patterns"},
    {"documents", "errors", ""},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MAX_FILES, MAX_LINES = 75, 400


def name(path):
    """eventstacks/bus/send.py → bus.send; eventstacks/bus/__init__.py → bus."""
    return (
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").strip(".")
    )


FILES = {name(path): path for path in SOURCE.rglob("*.py")}


def imported(path):
    """The modules of this package that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eventstacks"):
            base = node.module.removeprefix("eventstacks").strip(".")
            submodules = {f"{base}.{alias.name}".strip(".") for alias in node.names} & FILES.keys()
            yield from submodules or {base}


def graph():
    return {module: set(imported(path)) - {"", module} for module, path in FILES.items() if module}


def test_imports_go_downwards():
    upward = {
        f"{module} → {other}"
        for module, others in graph().items()
        for other in others
        if LEVEL[other.split(".")[0]] < LEVEL[module.split(".")[0]]
    }
    assert upward == set()


def test_there_are_no_circles():
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        raise AssertionError(" → ".join(error.args[1])) from None


def test_files_are_few_and_short():
    assert len(FILES) <= MAX_FILES
    lengths = {module: len(path.read_text().splitlines()) for module, path in FILES.items()}
    assert {module: lines for module, lines in lengths.items() if lines > MAX_LINES} == {}
