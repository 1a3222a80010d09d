"""Patterns that are refused, with AWS's text and the path."""

from __future__ import annotations

import pytest

from eventstacks.patterns.grammar import PatternError
from eventstacks.patterns.matcher import Pattern
from eventstacks.patterns.operators import is_complex, parse_wildcard

NOT_NUMERIC = "Value of {} must be numeric"
ONE_KEY = "Only one key allowed in match expression"
TOO_MANY = "Too many elements in numeric expression"
INSIDE_IGNORE_CASE = (
    "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported."
)


@pytest.mark.parametrize(
    ("test", "what"),
    [
        ({}, "Match expression name not found"),
        ({"Prefix": "a"}, "Unrecognized match type Prefix"),
        (["a"], "Match value must be String, number, true, false, or null"),
        ({"prefix": 1}, "prefix match pattern must be a string"),
        ({"prefix": {}}, "Prefix expression name not found"),
        ({"prefix": {"suffix": "a"}}, "Unsupported prefix pattern: suffix"),
        (
            {"prefix": {"equals-ignore-case": None}},
            "equals-ignore-case match pattern must be a string",
        ),
        ({"prefix": {"equals-ignore-case": "a", "b": 1}}, ONE_KEY),
        ({"prefix": "a", "suffix": "b"}, ONE_KEY),
        ({"suffix": ["a"]}, "suffix match pattern must be a string"),
        (
            {"equals-ignore-case": {"prefix": "a"}},
            "equals-ignore-case match pattern must be a string",
        ),
        ({"exactly": 5}, "exact match pattern must be a string"),
        ({"wildcard": ["a*"]}, "wildcard match pattern must be a string"),
        ({"wildcard": "é**"}, "Consecutive wildcard characters at pos 3"),
        ({"wildcard": "a\\"}, "Invalid escape character at pos 2"),
        ({"wildcard": "*-*-*-*-*-*-x"}, "Rule is too complex"),
        ({"exists": "true"}, "exists match pattern must be either true or false."),
        ({"exists": 1}, "exists match pattern must be either true or false."),
        ({"exists": True, "x": 1}, ONE_KEY),
        ({"cidr": 5}, "prefix match pattern must be a string"),
        ({"cidr": "10.0.0.0"}, "Malformed CIDR, one '/' required"),
        ({"cidr": "10.0.0.0/a"}, "Malformed CIDR, mask bits must be an integer"),
        ({"cidr": "10.0.0.0/-1"}, "Malformed CIDR, mask bits must not be negative"),
        ({"cidr": "10.0.0.0/32"}, "IPv4 mask bits must be < 32"),
        ({"cidr": "::/128"}, "IPv6 mask bits must be < 128"),
        ({"cidr": "here/8"}, "Nonstandard IP address: here"),
        ({"cidr": "1.2.3.999/8"}, "Invalid IP address: 1.2.3.999"),
        ({"numeric": 5}, "Value of numeric must be an array."),
        ({"numeric": []}, "Invalid member in numeric match: ]"),
        ({"numeric": [5]}, "Invalid member in numeric match: 5"),
        ({"numeric": [["="], 5]}, "Invalid member in numeric match: ["),
        ({"numeric": ["==", 5]}, "Unrecognized numeric range operator: =="),
        ({"numeric": ["="]}, NOT_NUMERIC.format("equals")),
        ({"numeric": ["<", "5"]}, NOT_NUMERIC.format("<")),
        ({"numeric": [">=", True]}, NOT_NUMERIC.format(">=")),
        ({"numeric": ["=", 5, "<", 6]}, TOO_MANY),
        ({"numeric": [">", 5, 6]}, "Bad value in numeric range: 6"),
        ({"numeric": [">", 5, ">", 6]}, "Bad numeric range operator: >"),
        ({"numeric": [">", 5, "<="]}, NOT_NUMERIC.format("<=")),
        ({"numeric": [">", 5, "<", 6, "<"]}, "Too many terms in numeric range expression"),
        ({"numeric": [">", 5, "<", 5]}, "Bottom must be less than top"),
        ({"numeric": ["=", 9007199254740993]}, "Cannot compare number : 9007199254740993"),
        ({"numeric": ["=", 5], "x": 1}, TOO_MANY),
        (
            {"anything-but": None},
            "Value of anything-but must be an array or single string/number value.",
        ),
        ({"anything-but": {}}, "Anything-But expression name not found"),
        ({"anything-but": {"numeric": ["=", 1]}}, "Unsupported anything-but pattern: numeric"),
        (
            {"anything-but": ["a", None]},
            "Inside anything but list, start|null|boolean is not supported.",
        ),
        (
            {"anything-but": ["a", 1]},
            "Inside anything but list, either all values are number or string, mixed type",
        ),
        (
            {"anything-but": []},
            "Inside anything but list, either all values are number or string, mixed type",
        ),
        ({"anything-but": {"prefix": ["a", ""]}}, "Null prefix/suffix not allowed"),
        ({"anything-but": {"suffix": 1}}, "prefix/suffix match pattern must be a string"),
        ({"anything-but": {"equals-ignore-case": [1]}}, INSIDE_IGNORE_CASE),
        ({"anything-but": {"wildcard": 1}}, "wildcard match pattern must be a string"),
        ({"anything-but": {"wildcard": ["a", "b**"]}}, "Consecutive wildcard characters at pos 2"),
        ({"anything-but": {"prefix": "a", "b": 1}}, TOO_MANY),
        ({"anything-but": "a", "b": 1}, TOO_MANY),
    ],
)
def test_refused_in_the_words_of_aws(test, what):
    with pytest.raises(PatternError) as refused:
        Pattern({"detail": {"state": ["fine", test]}})
    assert refused.value.what.startswith(what)
    assert refused.value.where == "detail.state"


@pytest.mark.parametrize(
    ("pattern", "what", "where"),
    [
        ("this", "Event pattern is not valid JSON", ""),
        ('{"a": [NaN]}', "Event pattern is not valid JSON", ""),
        ('["a"]', "Filter is not an object", ""),
        ({}, "Empty objects are not allowed", ""),
        ({"a": {"b": {}}}, "Empty objects are not allowed", "a.b"),
        ({"a": []}, "Empty arrays are not allowed", "a"),
        ({"a": {"b": "x"}}, '"b" must be an object or an array', "a.b"),
        ({"a": {"$or": {}}}, "It must be an Array followed with $or.", "a.$or"),
        ({"$or": [{"a": ["x"]}]}, "There must have at least 2 Objects in $or relationship.", "$or"),
        (
            {"$or": [{"a": ["x"]}, "b"]},
            "Only JSON object is allowed in array of $or relationship.",
            "$or",
        ),
        ({"$or": [{"a": ["x"]}, {}]}, "Empty objects are not allowed", ""),
        (
            {"$or": [{"a": ["x"]}, {"b": {"prefix": ["c"]}}]},
            "prefix is Ruler reserved fieldName which cannot be used inside $or.",
            "b.prefix",
        ),
        ("[" * 100_000, "Event pattern is not valid JSON: nested too deeply", ""),
    ],
)
def test_refused_patterns_name_the_path(pattern, what, where):
    with pytest.raises(PatternError) as refused:
        Pattern(pattern)
    assert refused.value.what.startswith(what)
    assert refused.value.where == where


def test_more_than_a_thousand_combinations_are_refused():
    def pattern(count):
        return {f"f{number}": {"$or": [{"a": [1]}, {"b": [1]}]} for number in range(count)}

    assert len(Pattern(pattern(9)).alternatives) == 512
    with pytest.raises(PatternError, match="1000 rule combinations"):
        Pattern(pattern(40))
    branches = [{"a": [number]} for number in range(1001)]
    assert len(Pattern({"$or": branches[:1000]}).alternatives) == 1000
    with pytest.raises(PatternError, match="1000 rule combinations"):
        Pattern({"$or": branches})


@pytest.mark.parametrize("kind", ["prefix", "suffix", "wildcard", "equals-ignore-case"])
@pytest.mark.parametrize("value", ["", "x", 1])
def test_an_empty_list_excludes_nothing(kind, value):
    assert Pattern({"a": [{"anything-but": {kind: []}}]}).matches({"a": value})


@pytest.mark.parametrize(
    "pattern",
    [
        {"a": [{"anything-but": {"prefix": []}}]},
        {"prefix": ["x"]},
        '{"a": ["x"]} and more',
        {"": ["x"]},
    ],
)
def test_taken_although_it_looks_odd(pattern):
    Pattern(pattern)


def test_an_unknown_operator_is_advised_on():
    with pytest.raises(PatternError, match="equals-ignore-case"):
        Pattern({"a": [{"regex": "x"}]})


@pytest.mark.parametrize(
    ("wildcard", "complex_"),
    [
        ("arn:aws:events:eu-central-1:*:event-bus/*", False),
        ("/home/*/a/a/a/a/a/b.txt", False),
        ("no star, however loooooooooooooooong", False),
        ("*aaaaaaaaaaaaaaaa", True),
        ("*:*:*:*:*:*:x", True),
        ("*aaaaaaaaa", False),  # at most ten prefixes of it match one text at once
        ("*aaaaaaaaaa", True),  # eleven
    ],
)
def test_the_work_of_wildcards_is_bounded(wildcard, complex_):
    assert is_complex(parse_wildcard(wildcard)) is complex_
