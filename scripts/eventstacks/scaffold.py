"""Create a project, or a stack in a project, from the starter files in ``templates/scaffold``."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import jinja2

from eventstacks import __version__, documents, environment, rendering
from eventstacks.errors import ErrorCode, ToolError

TARGETS = {  # kind of target → its Id in the rule's Targets; scaffold/<kind>.yaml.j2 is its starter
    "log-group": "EventLogGroup",
    "lambda": "EventFunction",
    "sqs": "EventQueue",
    "sns": "EventTopic",
    "stepfunctions": "Workflow",
    "bus": "TargetEventBus",
    "webhook": "ApiDestination",
    "pipe": "EventLogGroup",  # pipe and schedule send to the bus of the rule
    "schedule": "EventLogGroup",
}
CODE = {"lambda": ".py", "stepfunctions": ".json"}  # kinds with a file in functions/: its suffix
EXAMPLE = "order-events"  # the stack of a new project
PROJECT = {  # file in scaffold/project → file in the new project
    "Makefile": "Makefile",
    "cfnlintrc": ".cfnlintrc",
    "gitignore": ".gitignore",
    "local.yaml": "parameters/local.yaml",
    "requirements.txt": "requirements.txt",
    "workflow.yaml": ".github/workflows/test.yaml",
}


def project(directory: Path) -> dict[Path, str]:
    """Return the files of a new project with one example stack; nothing is written.

    Raises ToolError if one of them exists: nothing is overwritten.
    """
    files = {
        directory / target: _fill(f"project/{file}", stack=EXAMPLE, version=__version__)
        for file, target in PROJECT.items()
    } | {directory / path: text for path, text in _stack(EXAMPLE, "log-group", "EventBus").items()}
    _refuse_existing(files)
    return files


def stack(
    name: str,
    *,
    target: str = "log-group",
    has_bus: bool = True,
    bus_of: str | None = None,
) -> dict[Path, str]:
    """Return the files of a new stack in the project of the current folder; nothing is written.

    ``target``: a key of TARGETS. Its rule is on the bus of the stack ``bus_of``; else with
    ``has_bus`` on a bus of its own; else on the default bus. ``parameters/local.yaml`` and, if
    there is one, ``.taskcat.yml`` get an entry and keep everything else, comments too; a test of
    taskcat creates one stack, so with ``bus_of`` there is none.

    Raises ToolError for an invalid name, a stack that exists, a stack without a bus, a
    rule that triggers itself, or a file whose form cannot take an entry.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 40:
        raise ToolError(
            f"invalid stack name {name!r}",
            where="--stack",
            advice="Use at most 40 lower-case letters, digits and single hyphens, first a letter.",
        )
    if target == "bus" and not (has_bus or bus_of):
        raise ToolError(
            "a rule on the default bus that sends to the default bus triggers itself",
            where="--target bus --default-bus",
            advice="Leave out --default-bus, or name the stack of another bus with --bus-of.",
        )
    entry = _bus_entry(bus_of) if bus_of else []
    own_bus = "EventBus" if has_bus else None
    bus = "BusName" if bus_of else own_bus
    files = _stack(name, target, bus)
    _refuse_existing(files)
    if "log_retention()" in files[Path(f"templates/{name}.yaml.j2")]:
        entry = [*(entry or ["parameters:"]), "  LogRetentionInDays: 1"]
    local, taskcat = Path("parameters/local.yaml"), Path(".taskcat.yml")
    files[local] = add_entry(local, "stacks", name, entry)
    if taskcat.exists() and not bus_of:
        files[taskcat] = add_entry(taskcat, "tests", name, [f"template: build/{name}.yaml"])
    return files


def _bus_entry(bus_of: str) -> list[str]:
    """Return the lines of an environment file for a stack with a rule on another stack's bus."""
    local = environment.load("local")
    settings = local.choose(bus_of)[0].settings
    document = rendering.render(settings.template).document
    value = ((document.get("Outputs") or {}).get("EventBusName") or {}).get("Value")
    resources = document["Resources"].items()
    buses = [{"Ref": key} for key, one in resources if one["Type"] == "AWS::Events::EventBus"]
    if value not in buses:
        raise ToolError(
            f"stack {bus_of!r} has no event bus with the output EventBusName",
            code=ErrorCode.NOT_FOUND,
            where=f"--bus-of: template {settings.template}",
            advice="Name a stack with an event bus, or leave out --bus-of.",
        )
    regions = [f"regions: [{', '.join(settings.regions)}]"]
    lines = ["parameters:", f"  BusName: !Output {bus_of}.EventBusName"]
    return lines if settings.regions == local.regions else regions + lines


def add_entry(path: Path, section: str, name: str, lines: list[str]) -> str:
    """Return a YAML file with one more entry at the end of a top-level mapping.

    All other lines stay as they are. Raises ToolError if the entry exists, or if the section is not
    a mapping with one entry per line.
    """
    text = documents.read_text(path)
    text += "" if text.endswith("\n") else "\n"
    gap = (
        r"(?:[ \t]*(?:#.*)?\n)*"  # blank lines and comments; those at the end are not the section's
    )
    found = re.search(rf"^{section}:[ \t]*(?:#.*)?\n(?:{gap} +[^\s#-].*\n)+", text, re.MULTILINE)
    indent = re.search(r"^ +(?=[^\s#])", found[0], re.MULTILINE) if found else None
    margin = indent[0] if indent else "  "
    entry = "".join(f"{margin}{line}\n" for line in (f"{name}:", *(f"  {line}" for line in lines)))
    if not found:
        raise ToolError(
            f"cannot add an entry: {section!r} is not a mapping with one entry per line",
            where=str(path),
            advice=f"Add it by hand:\n{entry}",
        )
    if f"\n{margin}{name}:" in found[0]:
        raise ToolError(
            f"{name!r} exists already",
            code=ErrorCode.ALREADY_EXISTS,
            where=f"{path}: {section}",
            advice="Choose another name.",
        )
    return text[: found.end()] + entry + text[found.end() :]


def _stack(name: str, target: str, bus: str | None) -> dict[Path, str]:
    source, file = f"com.example.{name}", name.replace("-", "_")
    event = {
        "source": source,
        "detail-type": "something happened",
        "detail": {"what": "a first event"},
    }
    sample = {"event": event, "expect": {"EventRule": [TARGETS[target]]}}
    values = {"name": name, "source": source, "file": file, "bus": bus}
    files = {
        Path(f"templates/{name}.yaml.j2"): _fill(f"{target}.yaml.j2", **values),
        Path(f"tests/events/{name}/event.json"): json.dumps(sample, indent=2) + "\n",
    }
    if suffix := CODE.get(target):
        code = Path(f"templates/functions/{file}{suffix}")
        files[code] = _fill(f"{target}{suffix}.j2", **values)
    return files


def _refuse_existing(files: Mapping[Path, str]) -> None:
    if existing := [str(path) for path in files if path.exists()]:
        raise ToolError(
            "the file exists already",
            code=ErrorCode.ALREADY_EXISTS,
            where=", ".join(existing),
            advice="Choose another name or folder: nothing is overwritten.",
        )


def _fill(file: str, /, **values: object) -> str:
    """Return a starter file with ``<< name >>`` and ``<% if … %>`` filled in."""
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(documents.packaged("templates/scaffold")),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML, not HTML
        trim_blocks=True,
        keep_trailing_newline=True,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    return jinja.get_template(file).render(values)
