"""The index against the single matcher, on generated patterns and events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstacks.patterns.index import RuleSet
from eventstacks.patterns.matcher import Pattern

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
@given(st.lists(PATTERNS, min_size=1, max_size=12), st.lists(EVENTS, min_size=1, max_size=4))
def test_the_index_agrees_with_the_matcher(patterns, events):
    compiled = {f"rule{number}": Pattern(pattern) for number, pattern in enumerate(patterns)}
    rules = RuleSet(compiled)
    for event in events:
        assert rules.matching(event) == [
            name for name, pattern in compiled.items() if pattern.matches(event)
        ]


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
        assert RuleSet({"only": Pattern(pattern)}).matching(event) == ["only"]


def test_names_come_once_and_in_order():
    rules = RuleSet({name: Pattern({"$or": [{"a": [1]}, {"b": [1]}]}) for name in ("z", "y")})
    assert rules.matching({"a": 1, "b": 1}) == ["z", "y"]
    assert rules.matching({"a": 2}) == []
    assert RuleSet({}).matching({"a": 1}) == []


def test_rules_that_ask_only_for_absence():
    rules = RuleSet(
        {"none": Pattern({"a": [{"exists": False}]}), "some": Pattern({"a": [{"exists": True}]})}
    )
    assert rules.matching({}) == ["none"]
    assert rules.matching({"a": [{"b": 1}]}) == ["none"]
    assert rules.matching({"a": 0}) == ["some"]
