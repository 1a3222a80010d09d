"""The grammar of event patterns: what AWS accepts, and the text with which it refuses the rest.

Rules and error texts are those of aws/event-ruler (JsonRuleCompiler), which EventBridge runs;
recorded AWS verdicts agree.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.patterns.operators import (
    MAX_DEPTH,
    TOO_COMPLEX,
    Block,
    Comparison,
    Literal,
    Pairs,
    Span,
    canonical,
    find_digits,
    is_complex,
    parse_cidr,
    parse_wildcard,
    read_json,
    show,
)

# Dotted path -> tests, of which one must accept.
Alternative: TypeAlias = dict[str, tuple[Comparison, ...]]

# In the order of the guide.
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
_LATER = (
    "regex not-wildcard not-equals-ignore-case date-after date-on-or-after date-before "
    "date-on-or-before in-date-range ip-address-in-range ip-address-not-in-range"
)
# Not allowed as field names inside $or; some are reserved for future operators. Source:
# event-ruler, Constants.
_RESERVED = frozenset({*OPERATORS, *_LATER.split(), "=", "<", "<=", ">", ">="})
_ONE_KEY = "Only one key allowed in match expression"
_TOO_MANY = "Too many elements in numeric expression"
_COMBINATIONS = 1000  # of $or, the limit that AWS documents; the text of the refusal is a guess
_END: Any = ()  # the closing bracket of a list


class PatternError(ToolError):
    """AWS would refuse the pattern; ``what`` is AWS's text, ``where`` is the dotted path."""

    default_code = ErrorCode.PATTERN_INVALID


def parse_pattern(pattern: str | dict[str, Any]) -> list[Alternative]:
    """Return the alternatives of a pattern, JSON text or parsed: more than one if it has $or.

    In text, repeated keys and the spelling of numbers matter. Raises PatternError.
    """
    content: Any = pattern
    if isinstance(pattern, str):
        try:
            content = read_json(pattern, pairs=True)
        except ValueError as error:
            raise PatternError(f"Event pattern is not valid JSON: {error}") from error
    _require(isinstance(content, dict | Pairs), "", "Filter is not an object")
    alternatives: list[Alternative] = []
    _parse_object(alternatives, "", content, inside_or=False, depth=1)
    return alternatives


def _require(condition: object, path: str, what: str, advice: str = "") -> None:
    if not condition:
        raise PatternError(what, where=path, advice=advice)


def _list_items(content: Any) -> Sequence[tuple[str, Any]]:
    if isinstance(content, Pairs):
        return content
    return [(str(key), value) for key, value in content.items()]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Literal)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Literal) and not isinstance(value, bool)


def _parse_object(
    alternatives: list[Alternative], prefix: str, content: Any, *, inside_or: bool, depth: int
) -> None:
    _require(depth <= MAX_DEPTH, "", "Event pattern is nested too deeply")
    items = _list_items(content)
    for name, value in items:
        if name == "$or":
            _parse_or(alternatives, prefix, value, depth + 1)
            continue
        inner = prefix + name
        _require(
            not inside_or or name not in _RESERVED,
            inner,
            f"{name} is Ruler reserved fieldName which cannot be used inside $or.",
        )
        if isinstance(value, dict | Pairs):
            _parse_object(alternatives, f"{inner}.", value, inside_or=inside_or, depth=depth + 1)
            continue
        _require(
            isinstance(value, list),
            inner,
            f'"{name}" must be an object or an array',
            f"Write it as a list: [{show(value)}]",
        )
        tests = _parse_values(inner, value)
        if not alternatives:
            alternatives.append({})
        for alternative in alternatives:
            # Of repeated keys the last counts. Below an empty name event-ruler sets no dot.
            alternative[name if prefix == "." else inner] = tests
    _require(items, prefix[:-1], "Empty objects are not allowed")


def _parse_or(alternatives: list[Alternative], prefix: str, content: Any, depth: int) -> None:
    where = f"{prefix}$or"
    _require(isinstance(content, list), where, "It must be an Array followed with $or.")
    before = alternatives.copy() or [{}]
    alternatives.clear()
    for branch in content:
        _require(
            isinstance(branch, dict | Pairs),
            where,
            "Only JSON object is allowed in array of $or relationship.",
        )
        branches = [dict(alternative) for alternative in before]
        _parse_object(branches, prefix, branch, inside_or=True, depth=depth + 1)
        alternatives += branches
        _require(
            len(alternatives) <= _COMBINATIONS,
            where,
            f"Rule is too complex - $or makes over {_COMBINATIONS} rule combinations",
        )
    _require(len(content) >= 2, where, "There must have at least 2 Objects in $or relationship.")


def _parse_values(path: str, values: list[Any]) -> tuple[Comparison, ...]:
    equal: list[Any] = []
    tests: list[Comparison] = []
    for value in values:
        if isinstance(value, dict | Pairs):
            try:
                tests.append(_parse_expression(path, _list_items(value)))
            except ValueError as error:  # of a wildcard, or of a block of addresses
                raise PatternError(str(error), where=path) from None
        elif _is_text(value) and (digits := find_digits(value)):  # 10.0.0.1 is also 010.0.0.1
            tests.append(Comparison("address", (Block(digits, digits, show(value)),)))
        else:
            _require(
                not isinstance(value, list),
                path,
                "Match value must be String, number, true, false, or null",
            )
            equal.append(canonical(value))
    _require(values, path, "Empty arrays are not allowed")
    return (*([Comparison("equals", tuple(equal))] if equal else []), *tests)


def _parse_expression(path: str, items: Sequence[tuple[str, Any]]) -> Comparison:
    _require(items, path, "Match expression name not found")
    name, value = items[0]
    match name:
        case "numeric":
            test = _parse_numeric(path, value)
        case "anything-but":
            test = _parse_anything_but(path, value)
        case "exists":
            _require(
                isinstance(value, bool), path, "exists match pattern must be either true or false."
            )
            test = Comparison("exists" if value else "absent")
        case "cidr":
            # AWS names prefix here, too.
            _require(_is_text(value), path, "prefix match pattern must be a string")
            test = Comparison("cidr", (Block(*parse_cidr(value), str(value)),))
        case "prefix" | "suffix" if isinstance(value, dict | Pairs):
            test = _parse_affix_ignore_case(path, name, _list_items(value))
        case _:
            _require(
                name in OPERATORS,
                path,
                f"Unrecognized match type {name}",
                f"The operators are: {', '.join(OPERATORS)}.",
            )
            word, kind = ("exact", "equals") if name == "exactly" else (name, name)
            _require(_is_text(value), path, f"{word} match pattern must be a string")
            is_simple = name != "wildcard" or not is_complex(parse_wildcard(value))
            _require(is_simple, path, TOO_COMPLEX)
            test = Comparison(kind, (str(value),))
    _require(len(items) == 1, path, _TOO_MANY if name in {"numeric", "anything-but"} else _ONE_KEY)
    return test


def _parse_affix_ignore_case(path: str, affix: str, items: Sequence[tuple[str, Any]]) -> Comparison:
    _require(items, path, f"{affix.title()} expression name not found")
    name, value = items[0]
    _require(name == "equals-ignore-case", path, f"Unsupported {affix} pattern: {name}")
    _require(_is_text(value), path, "equals-ignore-case match pattern must be a string")
    _require(len(items) == 1, path, _ONE_KEY)
    return Comparison(f"{affix}-ignore-case", (str(value),))


_NOT_TEXT = {  # the refusals of values other than strings in anything-but
    "equals-ignore-case": "Inside anything-but/equals-ignore-case list, "
    "number|start|null|boolean is not supported.",
    "prefix": "prefix/suffix match pattern must be a string",
    "suffix": "prefix/suffix match pattern must be a string",
    "wildcard": "wildcard match pattern must be a string",
}


def _parse_anything_but(path: str, value: Any) -> Comparison:
    items: Sequence[tuple[str, Any]] = ()
    if isinstance(value, dict | Pairs):
        items = _list_items(value)
        _require(items, path, "Anything-But expression name not found")
        _require(items[0][0] in _NOT_TEXT, path, f"Unsupported anything-but pattern: {items[0][0]}")
        value = items[0][1]
    _require(
        isinstance(value, list | str) or _is_number(value),
        path,
        "Value of anything-but must be an array or single string/number value.",
    )
    values = value if isinstance(value, list) else [value]
    if not items:
        return _parse_anything_but_values(path, values)
    name = items[0][0]
    for text in values:
        _require(_is_text(text), path, _NOT_TEXT[name])
        _require(text or name not in {"prefix", "suffix"}, path, "Null prefix/suffix not allowed")
        is_simple = name != "wildcard" or not is_complex(parse_wildcard(text))
        _require(is_simple, path, TOO_COMPLEX)
    _require(len(items) == 1, path, _TOO_MANY)
    # An empty list of strings is accepted: nothing is excluded.
    excluded = Comparison(name, tuple(map(str, values)), negated=True)
    return excluded if values else Comparison("exists")


def _parse_anything_but_values(path: str, values: list[Any]) -> Comparison:
    _require(
        all(_is_text(value) or _is_number(value) for value in values),
        path,
        "Inside anything but list, start|null|boolean is not supported.",
    )
    numbers = [_read_operand(path, value) for value in values if _is_number(value)]
    _require(
        values and len(numbers) in {0, len(values)},
        path,
        "Inside anything but list, either all values are number or string, mixed type is not "
        "supported",
    )
    return Comparison("equals", tuple(numbers or map(str, values)), negated=True)


def _read_operand(path: str, value: Any) -> float:
    number: Any = canonical(value)
    _require(isinstance(number, int | float), path, f"Cannot compare number : {value}")
    return number  # type: ignore[no-any-return]


def _spell(value: object) -> str:
    """Return a token as event-ruler names it."""
    if isinstance(value, list | dict | tuple):
        return "]" if value is _END else "[" if isinstance(value, list) else "{"
    return value if isinstance(value, str) else show(value)


def _parse_numeric(path: str, value: Any) -> Comparison:
    if not isinstance(value, list):
        raise PatternError("Value of numeric must be an array.", where=path)
    operator, operand, second, top, *_ = (*value, _END, _END, _END, _END)
    operators = ("=", "<", "<=", ">", ">=")
    is_range, name = len(value) > 2, "equals" if operator == "=" else operator
    for is_valid, what in (
        (_is_text(operator), f"Invalid member in numeric match: {_spell(operator)}"),
        (operator in operators, f"Unrecognized numeric range operator: {operator}"),
        (_is_number(operand), f"Value of {name} must be numeric"),
        (not is_range or operator not in operators[:3], _TOO_MANY),
        (not is_range or _is_text(second), f"Bad value in numeric range: {_spell(second)}"),
        (not is_range or second in operators[1:3], f"Bad numeric range operator: {second}"),
        (not is_range or _is_number(top), f"Value of {second} must be numeric"),
        (len(value) <= 4, "Too many terms in numeric range expression"),
    ):
        _require(is_valid, path, what)
    number = _read_operand(path, operand)
    low, high = (float("-inf"), number) if operator in {"<", "<="} else (number, float("inf"))
    if operator == "=":
        high = number
    if is_range:
        high = _read_operand(path, top)
        _require(low < high, path, "Bottom must be less than top")
    return Comparison("numeric", (Span(low, operator == ">", high, "<" in (operator, second)),))
