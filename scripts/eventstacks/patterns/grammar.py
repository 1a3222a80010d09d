"""The grammar of event patterns: what AWS takes, what it refuses, and in which words.

Rules and error texts are those of aws/event-ruler (JsonRuleCompiler), which EventBridge runs; recorded AWS verdicts
agree. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from eventstacks.errors import ToolError
from eventstacks.patterns.address import find_digits, parse_cidr
from eventstacks.patterns.operators import Block, Comparison, Span
from eventstacks.patterns.values import Literal, Pairs, canonical, read_json, show
from eventstacks.patterns.wildcard import TOO_COMPLEX, is_complex, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

Alternative: TypeAlias = dict[
    str, tuple[Comparison, ...]
]  # dotted path -> tests, of which one must accept

# In the order of the guide. As text these lists take two lines, not forty.
OPERATORS = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
    "exactly",
]
_LATER = "regex not-wildcard not-equals-ignore-case date-after date-on-or-after date-before date-on-or-before"
_LATER += " in-date-range ip-address-in-range ip-address-not-in-range"
# Not allowed as names of fields inside $or; some are kept for operators to come. Source: event-ruler, Constants.
_RESERVED = frozenset({*OPERATORS, *_LATER.split(), "=", "<", "<=", ">", ">="})
_ONE_KEY = "Only one key allowed in match expression"
_TOO_MANY = "Too many elements in numeric expression"
_COMBINATIONS = 1000  # of $or, the limit that AWS documents; the words of the refusal are a guess
_END: Any = ()  # stands for the closing bracket of a list


class PatternError(ToolError):
    """AWS would refuse the pattern; ``what`` is in its words, ``where`` is the dotted path."""


def parse_pattern(pattern: str | dict[str, Any]) -> list[Alternative]:
    """The alternatives of a pattern (one, or more where it has $or), given as JSON text or as what it says.

    In text, repeated keys and the spelling of numbers count. Raises PatternError.
    """
    content: Any = pattern
    if isinstance(pattern, str):
        try:
            content = read_json(pattern, pairs=True)
        except ValueError as error:
            raise PatternError(f"Event pattern is not valid JSON: {error}") from error
    if not isinstance(content, dict | Pairs):
        raise PatternError("Filter is not an object")
    alternatives: list[Alternative] = []
    try:
        _parse_object(alternatives, "", content, inside_or=False)
    except RecursionError as error:
        raise PatternError("Event pattern is nested too deeply") from error
    return alternatives


def _refuse(path: str, what: str, advice: str = "") -> NoReturn:
    raise PatternError(what, where=path, advice=advice)


def _list_items(content: Any) -> Sequence[tuple[str, Any]]:
    return (
        content
        if isinstance(content, Pairs)
        else [(str(key), value) for key, value in content.items()]
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Literal)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Literal) and not isinstance(value, bool)


def _parse_object(
    alternatives: list[Alternative], prefix: str, content: Any, *, inside_or: bool
) -> None:
    items = _list_items(content)
    for name, value in items:
        if name == "$or":
            _parse_or(alternatives, prefix, value)
            continue
        inner = prefix + name
        if inside_or and name in _RESERVED:
            _refuse(inner, f"{name} is Ruler reserved fieldName which cannot be used inside $or.")
        if isinstance(value, dict | Pairs):
            _parse_object(alternatives, f"{inner}.", value, inside_or=inside_or)
        elif isinstance(value, list):
            tests = _parse_values(inner, value)
            if not alternatives:
                alternatives.append({})
            for alternative in alternatives:
                # Said twice, the last counts. Below an empty name event-ruler sets no dot.
                alternative[name if prefix == "." else inner] = tests
        else:
            _refuse(
                inner,
                f'"{name}" must be an object or an array',
                f"Write it as a list: [{show(value)}]",
            )
    if not items:
        _refuse(prefix[:-1], "Empty objects are not allowed")


def _parse_or(alternatives: list[Alternative], prefix: str, content: Any) -> None:
    where = f"{prefix}$or"
    if not isinstance(content, list):
        _refuse(where, "It must be an Array followed with $or.")
    so_far = alternatives.copy() or [{}]
    alternatives.clear()
    for branch in content:
        if not isinstance(branch, dict | Pairs):
            _refuse(where, "Only JSON object is allowed in array of $or relationship.")
        branches = [dict(alternative) for alternative in so_far]
        _parse_object(branches, prefix, branch, inside_or=True)
        alternatives += branches
        if len(alternatives) > _COMBINATIONS:
            _refuse(
                where, f"Rule is too complex - $or makes over {_COMBINATIONS} rule combinations"
            )
    if len(content) < 2:
        _refuse(where, "There must have at least 2 Objects in $or relationship.")


def _parse_values(path: str, values: list[Any]) -> tuple[Comparison, ...]:
    equal: list[Any] = []
    tests: list[Comparison] = []
    for value in values:
        if isinstance(value, dict | Pairs):
            tests.append(_parse_expression(path, _list_items(value)))
        elif isinstance(value, list):
            _refuse(path, "Match value must be String, number, true, false, or null")
        elif _is_text(value) and (digits := find_digits(value)):
            tests.append(
                Comparison("cidr", (Block(digits, digits, str(value)),))
            )  # 10.0.0.1 is also 010.0.0.1
        else:
            equal.append(canonical(value))
    if not values:
        _refuse(path, "Empty arrays are not allowed")
    return (*([Comparison("equals", tuple(equal))] if equal else []), *tests)


def _parse_expression(path: str, items: Sequence[tuple[str, Any]]) -> Comparison:  # noqa: C901 - one case for each operator
    if not items:
        _refuse(path, "Match expression name not found")
    (name, value), extra = items[0], len(items) > 1
    match name:
        case "numeric":
            test = _parse_numeric(path, value)
        case "anything-but":
            test = _parse_anything_but(path, value)
        case "exists":
            if not isinstance(value, bool):
                _refuse(path, "exists match pattern must be either true or false.")
            test = Comparison("exists" if value else "absent")
        case "cidr":
            test = Comparison("cidr", (_parse_block(path, value),))
        case "prefix" | "suffix" if isinstance(value, dict | Pairs):
            test = _parse_affix_ignore_case(path, name, _list_items(value))
        case "prefix" | "suffix" | "equals-ignore-case" | "wildcard" | "exactly":
            word, kind = ("exact", "equals") if name == "exactly" else (name, name)
            if not _is_text(value):
                _refuse(path, f"{word} match pattern must be a string")
            if name == "wildcard":
                _check_wildcard(path, value)
            test = Comparison(kind, (str(value),))
        case _:
            _refuse(
                path,
                f"Unrecognized match type {name}",
                f"The operators are: {', '.join(OPERATORS)}.",
            )
    if extra:
        _refuse(path, _TOO_MANY if name in {"numeric", "anything-but"} else _ONE_KEY)
    return test


def _parse_affix_ignore_case(path: str, affix: str, items: Sequence[tuple[str, Any]]) -> Comparison:
    if not items:
        _refuse(path, f"{affix.title()} expression name not found")
    name, value = items[0]
    if name != "equals-ignore-case":
        _refuse(path, f"Unsupported {affix} pattern: {name}")
    if not _is_text(value):
        _refuse(path, "equals-ignore-case match pattern must be a string")
    if len(items) > 1:
        _refuse(path, _ONE_KEY)
    return Comparison(f"{affix}-ignore-case", (str(value),))


def _parse_block(path: str, value: Any) -> Block:
    if not _is_text(value):
        _refuse(path, "prefix match pattern must be a string")  # AWS says prefix here, too
    try:
        return Block(*parse_cidr(value), str(value))
    except ValueError as error:
        _refuse(path, str(error))


def _check_wildcard(path: str, text: str) -> None:
    try:
        if is_complex(parse(text)):
            _refuse(path, TOO_COMPLEX)
    except ValueError as error:
        _refuse(path, str(error))


_NOT_TEXT = {  # what anything-but says of values other than text
    "equals-ignore-case": "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.",
    "prefix": "prefix/suffix match pattern must be a string",
    "suffix": "prefix/suffix match pattern must be a string",
    "wildcard": "wildcard match pattern must be a string",
}


def _parse_anything_but(path: str, value: Any) -> Comparison:  # noqa: C901 - one refusal after the other
    items: Sequence[tuple[str, Any]] = ()
    if isinstance(value, dict | Pairs):
        items = _list_items(value)
        if not items:
            _refuse(path, "Anything-But expression name not found")
        if items[0][0] not in _NOT_TEXT:
            _refuse(path, f"Unsupported anything-but pattern: {items[0][0]}")
        value = items[0][1]
    if not (isinstance(value, list | str) or _is_number(value)):
        _refuse(path, "Value of anything-but must be an array or single string/number value.")
    values = value if isinstance(value, list) else [value]
    if not items:
        return _parse_anything_but_values(path, values)
    name = items[0][0]
    for text in values:
        if not _is_text(text):
            _refuse(path, _NOT_TEXT[name])
        if not text and name in {"prefix", "suffix"}:
            _refuse(path, "Null prefix/suffix not allowed")
        if name == "wildcard":
            _check_wildcard(path, text)
    if len(items) > 1:
        _refuse(path, _TOO_MANY)
    # An empty list of texts is taken: nothing is excluded.
    return (
        Comparison(name, tuple(map(str, values)), negated=True) if values else Comparison("exists")
    )


def _parse_anything_but_values(path: str, values: list[Any]) -> Comparison:
    if not all(_is_text(value) or _is_number(value) for value in values):
        _refuse(path, "Inside anything but list, start|null|boolean is not supported.")
    numbers = [_read_operand(path, value) for value in values if _is_number(value)]
    if len(numbers) not in {0, len(values)} or not values:
        _refuse(
            path,
            "Inside anything but list, either all values are number or string, mixed type is not supported",
        )
    return Comparison("equals", tuple(numbers or map(str, values)), negated=True)


def _read_operand(path: str, value: Any) -> float:
    number = canonical(value)
    if not isinstance(number, int | float):
        _refuse(path, f"Cannot compare number : {value}")
    return number


def _spell(value: object) -> str:
    """A token as event-ruler names it."""
    if isinstance(value, list | dict | tuple):
        return "]" if value is _END else "[" if isinstance(value, list) else "{"
    return value if isinstance(value, str) else show(value)


def _parse_numeric(path: str, value: Any) -> Comparison:
    if not isinstance(value, list):
        _refuse(path, "Value of numeric must be an array.")
    operator, operand, second, top, *_ = [*value, _END, _END, _END, _END]
    operators = ("=", "<", "<=", ">", ">=")
    is_range = len(value) > 2
    for refused, what in (
        (not _is_text(operator), f"Invalid member in numeric match: {_spell(operator)}"),
        (operator not in operators, f"Unrecognized numeric range operator: {operator}"),
        (
            not _is_number(operand),
            f"Value of {'equals' if operator == '=' else operator} must be numeric",
        ),
        (is_range and operator in operators[:3], _TOO_MANY),
        (is_range and not _is_text(second), f"Bad value in numeric range: {_spell(second)}"),
        (is_range and second not in operators[1:3], f"Bad numeric range operator: {second}"),
        (is_range and not _is_number(top), f"Value of {second} must be numeric"),
        (len(value) > 4, "Too many terms in numeric range expression"),
    ):
        if refused:
            _refuse(path, what)
    number = _read_operand(path, operand)
    low, high = (float("-inf"), number) if operator in {"<", "<="} else (number, float("inf"))
    if operator == "=":
        high = number
    if is_range:
        high = _read_operand(path, top)
        if low >= high:
            _refuse(path, "Bottom must be less than top")
    return Comparison("numeric", (Span(low, operator == ">", high, "<" in (operator, second)),))
