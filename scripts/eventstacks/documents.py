"""Read files.

YAML as people write it for CloudFormation, strictly, and what comes with the package.
"""

import re
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from eventstacks.errors import ErrorCode, ToolError

_ROOT_INTRINSICS = ("Ref", "Condition")  # all others have the prefix Fn:: in their long form
# Guesses: far deeper and wider than templates and environment files are, and not too much for the
# code that follows them down.
MAX_DEPTH, MAX_WIDTH = 100, 100_000
# libyaml's parser, ten times as fast, where PyYAML was built with it.
FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_KEY_TAGS = [f"{_TAG}{kind}" for kind in ("str", "int", "float")]
# CloudFormation and JSON have none of these. Source: User Guide, 'CloudFormation template formats'.
_FOREIGN = [f"{_TAG}{kind}" for kind in ("binary", "omap", "pairs", "set", "timestamp")]


def packaged(path: str) -> Path:
    """Return the location of a file or folder of the package, given its path in the checkout.

    In a checkout (an editable install) that is the file itself; the wheel has a copy in ``_data``.
    """
    package = Path(__file__).parent
    data = package / "_data"
    return (data if data.is_dir() else package.parents[1]) / path


class DocumentError(ToolError):
    """A file that cannot be read, or is not valid YAML."""

    default_code = ErrorCode.DOCUMENT_INVALID


class StrictLoader(FAST_LOADER):  # type: ignore[misc]
    """SafeLoader that refuses duplicate keys, which YAML would drop silently, and unknown tags.

    Keys are strings, as in JSON: 1 is '1'. Dates stay strings: 2012-10-17 is the version of a
    policy.
    """

    merges = True  # whether <<: *name is allowed
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _FOREIGN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def flatten_mapping(self, node: Any) -> None:
        """Merge. Raises ConstructorError for a key that is duplicate or not a string.

        It is called again for a mapping that was merged into another one.
        """
        seen = set()
        for key, _ in node.value:
            if key.tag == _MERGE and not self.merges:
                raise refuse(key, "YAML merge keys (<<) are not supported by CloudFormation")
            if not isinstance(key, yaml.ScalarNode):
                raise refuse(key, "keys must be scalars")
            if key.tag not in (_MERGE, *_KEY_TAGS):
                kind = key.tag.replace(_TAG, "")
                raise refuse(key, f"the key {key.value!r} is of type {kind} in YAML; quote it")
            if key.value in seen:
                raise refuse(key, f"duplicate key {key.value!r}")
            seen.add(key.value)
            key.tag = _MERGE if key.tag == _MERGE else f"{_TAG}str"
        super().flatten_mapping(node)
        # Each key once: own keys, which come last, override those that were merged into it.
        node.value = list({key.value: (key, value) for key, value in node.value}.values())


def refuse(node: Any, problem: str) -> yaml.constructor.ConstructorError:
    """Return the error for a YAML node, to raise in a constructor."""
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _refuse_tag(_: Any, node: Any) -> Any:
    raise refuse(node, f"unknown tag {node.tag.replace(_TAG, '!!')}")


for _tag in (None, *_FOREIGN):
    StrictLoader.add_constructor(_tag, _refuse_tag)


class _TemplateLoader(StrictLoader):
    """The YAML of a CloudFormation template: ``!Sub x`` becomes ``{"Fn::Sub": x}``.

    Source: AWS CloudFormation User Guide, 'CloudFormation template formats': hash merges are not
    supported.
    """

    merges = False


def _construct_intrinsic(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in _ROOT_INTRINSICS else f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _construct_intrinsic)


def parse(text: str, name: str, loader: type[yaml.SafeLoader] = StrictLoader) -> Any:
    """Return the value of one YAML document.

    Raises DocumentError with ``name``, line and column.
    """
    try:
        value = yaml.load(text, Loader=loader)  # noqa: S506 - every loader here is a SafeLoader
        is_large = is_too_large(value)
    except RecursionError:
        is_large = True
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = re.sub(r"\s+", " ", getattr(error, "problem", None) or str(error))
        if mark and text[mark.index : mark.index + 1] == "\t":
            problem = "a tab; indent with spaces"
        raise DocumentError(f"invalid YAML: {problem}", where=where) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # What Python's own types refuse, such as 0b_.
        raise DocumentError(f"invalid YAML: {error}; quote the value", where=name) from None
    if is_large:
        raise DocumentError(
            f"nested more than {MAX_DEPTH} levels deep, or an alias that contains itself or over "
            f"{MAX_WIDTH:,} values",
            where=name,
        )
    return value


def is_too_large(value: Any) -> bool:
    """Return True if a value has more than MAX_DEPTH levels, or MAX_WIDTH values in one of them.

    What an alias repeats counts each time: an alias that contains itself has no end.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [one for one in level if isinstance(one, dict | list)]
        if sum(map(len, inner)) > MAX_WIDTH:
            return True
        level = [
            one for each in inner for one in (each.values() if isinstance(each, dict) else each)
        ]
    return any(isinstance(one, dict | list) for one in level)


# No underscores, nan or digits of other scripts, which Python would take.
NUMBER = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
_MAPPING = {"title": "a mapping (key: value)", "type": ["object", "null"]}
_ENTRY = {**_MAPPING, "type": "object", "properties": {"Properties": _MAPPING}}
_LIMIT = {"title": "a number", "type": ["number", "string"], "pattern": f"^{NUMBER}$"}
_PARAMETER = {
    **_ENTRY,
    "properties": {
        **dict.fromkeys(("MinLength", "MaxLength", "MinValue", "MaxValue"), _LIMIT),
        "AllowedPattern": {"title": "a string", "type": "string"},
        "AllowedValues": {"title": "a list", "type": "array"},
    },
}
# Fn::ForEach is a list.
_ENTRIES = {**_MAPPING, "patternProperties": {"^Fn::": True}, "additionalProperties": _ENTRY}
_SHAPE = jsonschema.Draft202012Validator(
    {
        **_MAPPING,
        "type": "object",
        "properties": {
            **dict.fromkeys(("Resources", "Outputs", "Mappings", "Rules"), _ENTRIES),
            **dict.fromkeys(("Conditions", "Metadata"), _MAPPING),
            "Parameters": {**_ENTRIES, "additionalProperties": _PARAMETER},
        },
    }
)


def parse_template(text: str, name: str) -> dict[str, Any]:
    """Return a CloudFormation template in YAML or JSON, intrinsic functions in their long form.

    Raises DocumentError for invalid YAML, a document that is not a mapping, and a section that does
    not contain mappings by name, or a constraint of a parameter that is not of its type: callers
    may rely on that.
    Source: AWS CloudFormation User Guide, 'Intrinsic function reference', 'Template sections'.
    """
    template: dict[str, Any] = parse(text, name, _TemplateLoader)
    for error in _SHAPE.iter_errors(template):
        place = ".".join(map(str, error.absolute_path)) or "not a CloudFormation template"
        expected = error.schema["title"]
        raise DocumentError(f"{place}: expected {expected}", where=name)
    return template


def text_of(value: Any) -> str:
    """Return a YAML scalar as CloudFormation has it: every value of a parameter is a string."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_text(path: Path) -> str:
    """Return the text of a file, without a byte order mark. Raises DocumentError that names it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DocumentError(f"cannot be read: {reason}", where=str(path)) from None
