"""How wildcards match values that are not known, and how verdicts combine."""

import pytest

from eventstacks.flow.symbols import like
from eventstacks.flow.targets import Reason, Verdict


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("a*c", "abc", True),
        ("a?c", "ac", False),
        ("*", "", True),
        ("a.c", "abc", False),
        ("⟨x⟩", "⟨x⟩", True),
        ("⟨x⟩", "b", None),
        ("arn:⟨x⟩:a", "arn:q:b", False),
        ("arn:⟨x⟩:*", "arn:⟨x⟩:b", True),
        ("p/*", "p/⟨y⟩", True),
        ("r/⟨A⟩", "r/⟨B⟩", False),
        ("r/⟨A?⟩", "r/⟨B⟩", None),
        ("r/⟨A⟩", "r/⟨B?⟩", None),
        ("r/⟨A⟩/x", "r/⟨A⟩/y", False),
    ],
)
def test_wildcards_match_as_in_iam(pattern, value, expected):
    assert like(pattern, value) is expected


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("r/*", "r/⟨A⟩", False),  # a name that AWS generates has no star
        ("r/*", "r/b", False),
        ("r/b", "r/⟨A⟩", None),
        ("⟨A?⟩", "r/b", None),
    ],
)
def test_a_star_is_no_wildcard_where_text_is_compared(text, value, expected):
    assert like(text, value, literal=True) is expected


VERDICTS = {
    True: Verdict(Reason.ALLOWED, "a"),
    None: Verdict(Reason.DEPENDS, "b"),
    False: Verdict(Reason.DENIED, "c"),
}


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (True, True, True),
        (True, None, None),
        (None, None, None),
        (True, False, False),
        (None, False, False),  # a denial is certain, whatever the other turns out to be
        (False, False, False),
    ],
)
def test_deny_beats_unknown_beats_allow(first, second, both):
    for one, other in ((first, second), (second, first)):
        assert (VERDICTS[one] & VERDICTS[other]).code == VERDICTS[both].code
