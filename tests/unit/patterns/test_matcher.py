"""Matches of each operator, and the explanations of mismatches."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstacks.errors import ToolError
from eventstacks.patterns.grammar import PatternError
from eventstacks.patterns.matcher import Pattern
from eventstacks.patterns.operators import read_json

VALUES = [
    # wanted, what matches, what does not
    (["red"], ["red", ["blue", "red"], [["red"]]], ["Red", "", None, 1, [], {}, {"red": 1}]),
    ([5], [5, 5.0, 5e0], ["5", 5.1, True, None]),
    ([1, "a"], [1.0, "a"], [True, "1"]),
    ([None], [None, [1, None]], ["null", "", [], 0, False]),
    ([True], [True], ["true", 1, False]),
    ([{"exactly": "red"}], ["red"], ["redder", 5]),
    ([{"prefix": "re"}], ["re", "red"], ["Red", "are", "", 7, None]),
    ([{"prefix": ""}], ["", "x"], [7, None, True]),
    ([{"suffix": ".png"}], [".png", "a.png"], ["a.PNG", "png", 7]),
    ([{"suffix": ""}], ["", "x"], [7]),
    ([{"prefix": {"equals-ignore-case": "Re"}}], ["red", "RED"], ["r", 7]),
    ([{"suffix": {"equals-ignore-case": ".Png"}}], ["a.png", ".PNG"], ["png"]),
    ([{"equals-ignore-case": "Straße"}], ["STRASSE", "straße"], ["strasse", "strase"]),
    ([{"equals-ignore-case": "k"}], ["k", "K"], ["\u212a"]),
    ([{"equals-ignore-case": "a.c"}], ["A.C"], ["abc"]),
    (
        [{"equals-ignore-case": "🚀"}],
        ["??"],
        ["🚀"],
    ),  # event-ruler folds UTF-16 halves, which no byte equals
    ([{"wildcard": "a*c"}], ["ac", "abc", "abcc", "a\nc"], ["acd", "bac", 5]),
    ([{"wildcard": "*b*b*"}], ["bb", "abab"], ["b", "abc"]),
    ([{"wildcard": "*"}], ["", "x"], [5, None]),
    ([{"wildcard": r"a\*\\b"}], [r"a*\b"], ["ab", r"axx\b"]),
    ([{"wildcard": "*aab"}], ["aaaab"], ["aaaba"]),
    ([{"wildcard": "a*b*c"}], ["abc", "a-----b-----b---c"], ["a-----c"]),
    ([{"anything-but": "a"}], ["b", 5, None, True, ["a", "b"]], ["a", ["a"], [], {}]),
    ([{"anything-but": ["a", "b"]}], ["c", 5], ["a", "b"]),
    ([{"anything-but": [1, 2]}], [3, "1", None], [1, 2.0]),
    ([{"anything-but": {"prefix": ["a", "b"]}}], ["cab", 5], ["abc", "b"]),
    ([{"anything-but": {"suffix": "c"}}], ["ca", None], ["abc"]),
    ([{"anything-but": {"equals-ignore-case": "Ab"}}], ["abc", 5], ["AB", "ab"]),
    ([{"anything-but": {"wildcard": ["a*c", "x*"]}}], ["ab", 5], ["abc", "x"]),
    ([{"anything-but": "a"}, {"anything-but": "b"}], ["a", "b", "c"], [[]]),
    ([{"numeric": ["=", 5]}], [5, 5.0], ["5", 4]),
    ([{"numeric": [">", 1, "<=", 5]}], [1.1, 5], [1, 5.1, "3", True]),
    ([{"numeric": [">=", -1, "<", 1]}], [-1, 0], [1, -1.5]),
    ([{"numeric": ["<", 0]}], [-1e300], [0, None]),
    (
        [{"cidr": "10.1.0.0/16"}],
        ["10.1.0.0", "10.1.255.255", "010.1.0.1"],
        ["10.2.0.0", "10.1.0", "10.1.0.256", 10],
    ),
    ([{"cidr": "2001:db8::/32"}], ["2001:DB8::1"], ["2001:db9::", "::"]),
    ([{"cidr": "::/8"}], ["::1"], ["0.0.0.1", f"{'1' * 5000}.0.0.1"]),
    (["10.0.0.1"], ["10.0.0.1", "010.0.0.1", "::ffff:a00:1"], ["10.0.0.2", "10.0.0.1/32"]),
    (["::1"], ["0:0:0:0:0:0:0:1"], ["::2"]),
    ([{"exists": True}], ["", None, [1]], [[], {}, {"y": 1}]),
    ([{"exists": False}], [[], {}, {"y": 1}], [None, "", [1]]),
    ([{"exists": False}, "a"], ["a", []], ["b"]),
]


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [(wanted, value, True) for wanted, good, _ in VALUES for value in good]
    + [(wanted, value, False) for wanted, _, bad in VALUES for value in bad],
)
def test_each_operator(wanted, value, expected):
    pattern = Pattern({"detail": {"x": wanted}})
    assert pattern.matches({"detail": {"x": value}}) is expected
    assert (pattern.explain({"detail": {"x": value}}) == []) is expected


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        ({"a": ["x"], "b": ["y"]}, {"a": "x", "b": "y"}, True),
        ({"a": ["x"], "b": ["y"]}, {"a": "x"}, False),
        # dots join keys, and may be part of one
        ({"a": {"b": {"c": ["x"]}}}, {"a.b": {"c": "x"}}, True),
        ({"a": {"b": {"c": ["x"]}}}, {"a": {"b.c": "x"}}, True),
        ({"a.b": {"c": ["x"]}}, {"a": {"b": {"c": "x"}}}, True),
        ({"a": {"b": ["x"]}}, {"a.b": {"b": "x"}}, False),
        ({"a": {"b": ["x"]}}, {"a": "y", "a.b": "x"}, True),
        ({"": ["x"]}, {"": "x"}, True),
        ({"b": {"": {"a": ["x"]}}}, {"b": {"": {"a": "x"}}}, True),
        ({"": {"a": ["x"]}}, {"": {"a": "x"}}, False),  # as event-ruler has it
        # fields of one array element
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1, "c": 2}]}, True),
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]}, False),
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1, "c": 3}, {"b": 1, "c": 2}]}, True),
        ({"a": {"b": {"d": [1]}, "c": [2]}}, {"a": [{"b": [{"d": 0}, {"d": 1}], "c": 2}]}, True),
        ({"a": {"b": {"d": [1], "e": [2]}}}, {"a": [{"b": [{"d": 1}, {"e": 2}]}]}, False),
        (
            {"a": {"b": [1]}, "c": {"d": [2]}},
            {"a": [{"b": 0}, {"b": 1}], "c": [{"d": 2}, {"d": 0}]},
            True,
        ),
        ({"a": {"b": [1], "c": [2]}}, {"a": [[{"b": 1}, {"c": 2}]]}, False),
        (
            {"a": {"b": [1], "c": [{"exists": False}], "d": [2]}},
            {"a": [{"b": 1}, {"d": 2}]},
            False,
        ),
        ({"a": {"b": [1], "d": [2]}, "a.c": [3]}, {"a": [{"b": 1}, {"d": 2}], "a.c": 3}, False),
        # missing from the element, though not from the array
        ({"a": {"b": [1], "c": [{"exists": False}]}}, {"a": [{"b": 1}, {"c": 2}]}, True),
        ({"a": {"c": [{"exists": False}], "b": [1]}}, {"a": [{"b": 1}, {"c": 2}]}, True),
        ({"a": {"b": [{"exists": False}], "c": [1]}}, {"a": [{"b": 2}, {"c": 1}]}, False),
        ({"a": {"b": [1], "c": [{"exists": False}]}}, {"a": [{"b": 1, "c": 2}]}, False),
        ({"a": {"c": [{"exists": False}]}}, {"a": [{"b": 1}, {"c": 2}]}, False),
        # $or beside its siblings, before and after, within and within
        ({"a": ["x"], "$or": [{"b": [1]}, {"c": [1]}]}, {"a": "x", "c": 1}, True),
        ({"$or": [{"b": [1]}, {"c": [1]}], "a": ["x"]}, {"c": 1}, False),
        ({"d": {"$or": [{"b": [1]}, {"$or": [{"c": [1]}, {"c": [2]}]}]}}, {"d": {"c": 2}}, True),
        (
            {"$or": [{"a": [1]}, {"b": [1]}], "c": {"$or": [{"a": [1]}, {"b": [1]}]}},
            {"b": 1, "c": {"a": 1}},
            True,
        ),
        (
            {"$or": [{"a": [1]}, {"b": [1]}], "c": {"$or": [{"a": [1]}, {"b": [1]}]}},
            {"b": 1, "a": 1},
            False,
        ),
    ],
)
def test_fields_together(pattern, event, expected):
    compiled = Pattern(pattern)
    assert compiled.matches(event) is expected
    assert (compiled.explain(event) == []) is expected


@pytest.mark.parametrize(
    ("pattern", "event", "expected"),
    [
        ('{"a": [300]}', '{"a": 3.0e2}', True),
        ('{"a": [9007199254740993]}', '{"a": 9007199254740993}', True),
        ('{"a": [9007199254740993]}', '{"a": 9007199254740992}', False),
        ('{"a": [9007199254740993]}', '{"a": "9007199254740993"}', False),
        ('{"a": [1e400]}', '{"a": 10e399}', False),
        ('{"a": [{"numeric": [">", 0]}]}', '{"a": 9007199254740993}', False),
        ('{"a": [{"anything-but": 5}]}', '{"a": 1e400}', True),
        ('{"a": [0.1]}', '{"a": 0.10}', True),
        ('{"a": ["x"], "a": ["y"]}', '{"a": "y"}', True),
        ('{"a": ["x"], "a": ["y"]}', '{"a": "x"}', False),
        ('{"a": {"b": [1]}, "a": {"c": [1]}}', '{"a": {"c": 1}}', False),
    ],
)
def test_spelling_counts_in_text(pattern, event, expected):
    assert Pattern(pattern).matches(read_json(event)) is expected


def test_a_large_array_takes_no_square_of_time():
    pattern = Pattern({"a": {"b": [1], "c": [2], "d": [3]}, "e": {"f": [1]}})
    rows = [{"b": 1, "c": 2, "d": 4} for _ in range(3000)]
    others = [{"f": 1} for _ in range(3000)]
    assert not pattern.matches({"a": rows, "e": others})
    assert pattern.matches({"a": [*rows, {"b": 1, "c": 2, "d": 3}], "e": others})


def nested(depth, innermost, wrap):
    value = innermost
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("limit", [1000, 20_000])
@pytest.mark.parametrize(("depth", "is_refused"), [(100, False), (600, True), (5_000, True)])
def test_nesting_is_limited_whatever_the_recursion_limit(limit, depth, is_refused):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        with pytest.raises(ToolError, match="nested too deeply") if is_refused else nullcontext():
            assert Pattern({"a": [1]}).matches({"a": nested(depth, 1, lambda value: [value])})
        pattern = nested(depth, [1], lambda value: {"a": value})
        with (
            pytest.raises(PatternError, match="nested too deeply") if is_refused else nullcontext()
        ):
            Pattern(pattern)
        text = '{"a":' * depth + "[1]" + "}" * depth
        with (
            pytest.raises(PatternError, match="nested too deeply") if is_refused else nullcontext()
        ):
            Pattern(text)
    finally:
        sys.setrecursionlimit(before)


def explain(pattern, event):
    return [str(miss) for miss in Pattern(pattern).explain(event)]


def test_each_failing_field_is_named_with_what_was_found_and_wanted():
    pattern = {
        "source": ["shop"],
        "detail": {"state": ["paid", {"prefix": "re"}], "total": [{"numeric": [">", 9]}]},
    }
    event = {"source": "shop", "detail": {"state": ["new", None], "total": "12"}}
    assert explain(pattern, event) == [
        'detail.state: "new", null; would match: "paid", or something that starts with "re"',
        'detail.total: "12"; would match: a number > 9',
    ]


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ({}, 'detail.a.b: missing; would match: "x"'),
        ({"a": "{}"}, 'detail.a.b: missing (detail.a is "{}", not an object); would match: "x"'),
        (
            {"a": {"b": {"c": 1}}},
            "detail.a.b: missing (detail.a.b is an object: patterns compare values)",
        ),
        (
            {"a": {"b": []}},
            "detail.a.b: missing (detail.a.b is an array without values: patterns compare values)",
        ),
    ],
)
def test_what_is_missing_is_explained(detail, said):
    assert explain({"detail": {"a": {"b": ["x"]}}}, {"detail": detail})[0].startswith(said)


def test_branches_of_or_are_told_apart_from_what_always_fails():
    misses = Pattern({"a": [1], "$or": [{"b": [1]}, {"c": [1]}]}).explain({"b": 2})
    assert [(miss.path, miss.found, miss.one_of) for miss in misses] == [
        ("a", (), False),
        ("b", (2,), True),
        ("c", (), True),
    ]


def test_values_of_different_array_elements_are_explained():
    said = explain({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]})
    assert said == ["a.c: 2; would match: 2, in the same array element as a.b"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"anything-but": ["a", "b"]}, 'anything but "a" or "b"'),
        ({"anything-but": {"wildcard": "a*"}}, 'anything but something like "a*"'),
        ({"numeric": [">=", 1, "<", 5.5]}, "a number >= 1 and < 5.5"),
        ({"numeric": ["=", 1]}, "a number = 1"),
        ({"cidr": "10.0.0.0/8"}, "an IP address in 10.0.0.0/8"),
        ("10.0.0.1", '"10.0.0.1"'),
        ({"equals-ignore-case": "Ab"}, '"Ab" in any case'),
        ({"exists": True}, "any value"),
        (None, "null"),
    ],
)
def test_operators_in_words(wanted, words):
    assert (
        explain({"a": [wanted], "b": [{"exists": False}]}, {"b": 1})[-1]
        == "b: 1; would match: no such field"
    )
    assert str(Pattern({"a": [wanted]}).alternatives[0].conditions[0]) == words


# --- random patterns and events

WORDS = st.sampled_from(
    ["", "a", "b", "ab", "A", "aB", "ba", "é", "É", "ß", "SS", "10.0.0.1", "10.0.0.9", "a*", "1"]
)
NUMBERS = st.sampled_from([-1, 0, 1, 1.0, 1.5, 2, 2**53 + 1])
LEAVES = WORDS | NUMBERS | st.none() | st.booleans()
KEYS = st.sampled_from(["a", "b", "a.b"])  # few, so that patterns and events meet
SOME_WORDS = st.lists(WORDS.filter(bool), min_size=1, max_size=2)

TESTS = st.one_of(
    LEAVES,
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"prefix": WORDS | st.fixed_dictionaries({"equals-ignore-case": WORDS})}),
    st.fixed_dictionaries({"suffix": WORDS | st.fixed_dictionaries({"equals-ignore-case": WORDS})}),
    st.fixed_dictionaries({"equals-ignore-case": WORDS}),
    st.fixed_dictionaries(
        {"wildcard": st.sampled_from(["*", "a*", "*b", "a*b", "*a*", r"a\*", r"*\*", "ab"])}
    ),
    st.fixed_dictionaries({"cidr": st.sampled_from(["10.0.0.0/8", "10.0.0.0/29", "::/8"])}),
    st.fixed_dictionaries(
        {
            "numeric": st.sampled_from(
                [["=", 1], [">", 0], ["<=", 1], [">=", 0, "<", 2], [">", -1, "<=", 1]]
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "anything-but": SOME_WORDS
            | st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=2)
            | st.dictionaries(
                st.sampled_from(["prefix", "suffix", "equals-ignore-case", "wildcard"]),
                st.lists(st.sampled_from(["a", "b", "Ab"]), min_size=1, max_size=2),
                min_size=1,
                max_size=1,
            )
        }
    ),
)
LISTS = st.lists(TESTS, min_size=1, max_size=3)
BRANCHES = st.recursive(
    st.dictionaries(KEYS, LISTS, min_size=1, max_size=3),
    lambda inner: st.dictionaries(KEYS, LISTS | inner, min_size=1, max_size=3),
    max_leaves=4,
)
PATTERNS = st.builds(
    lambda pattern, branches: pattern | ({"$or": branches} if branches else {}),
    BRANCHES,
    st.none() | st.lists(BRANCHES, min_size=2, max_size=3),
)
EVENTS = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=300, deadline=None)
@given(PATTERNS, EVENTS)
def test_why_not_is_empty_exactly_when_it_matches(pattern, event):
    compiled = Pattern(pattern)
    misses = compiled.explain(event)
    assert (misses == []) is compiled.matches(event)
    assert all(str(miss) for miss in misses)


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_a_pattern_of_one_value_is_found_where_that_value_stands(event):
    def list_leaves(content, path):
        for key, value in content.items():
            if isinstance(value, dict):
                yield from list_leaves(value, [*path, key])
            elif not isinstance(value, list):
                yield [*path, key], value

    for path, value in list_leaves(event, []):
        pattern = [value]
        for key in reversed(path):
            pattern = {key: pattern}
        assert Pattern(pattern).matches(event)
