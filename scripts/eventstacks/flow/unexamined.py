"""What can add rules, targets or policies to a template but is not expanded by this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstacks.flow.symbols import as_dict, as_list

if TYPE_CHECKING:
    from collections.abc import Mapping

# Transforms that add no resources: those of AWS::LanguageExtensions stand in the template as Fn::ForEach.
_KNOWN_TRANSFORMS = {
    "AWS::Serverless-2016-10-31",
    "AWS::LanguageExtensions",
    "AWS::CodeDeployBlueGreen",
    "AWS::SecretsManager-2020-07-23",
    "AWS::SecretsManager-2024-09-16",
}
_CONTAINERS = {
    "AWS::CloudFormation::Stack": "nested stack",
    "AWS::CloudFormation::StackSet": "stack set",
    "AWS::Serverless::Application": "nested stack",
    "AWS::Serverless::Connector": "connector",
}


def of_template(template: Mapping[str, Any]) -> list[str]:
    """Return what can add rules, targets or policies to a template but is not expanded here."""
    macros = [
        str(as_dict(entry).get("Name", entry)) for entry in as_list(template.get("Transform"))
    ]
    found = [f"macro {name}" for name in macros if name not in _KNOWN_TRANSFORMS]
    for name, raw in as_dict(template.get("Resources")).items():
        kind = str(as_dict(raw).get("Type", ""))
        if str(name).startswith("Fn::"):
            found.append(f"{str(name).split('::')[1]} {str(name).rsplit('::', 1)[-1]}")
        elif kind.endswith("::MODULE"):
            found.append(f"module {name}")
        elif kind in _CONTAINERS:
            found.append(f"{_CONTAINERS[kind]} {name}")
        elif isinstance(raw, dict) and "Connectors" in raw:
            found.append(f"connector {name}")
        elif kind.startswith("AWS::Serverless::") and as_dict(raw.get("Properties")).get("Events"):
            found.append(f"SAM events of {name}")
    return found
