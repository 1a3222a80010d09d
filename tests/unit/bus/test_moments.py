from datetime import UTC, datetime

import pytest

from eventstacks.bus import moments
from eventstacks.errors import ErrorCode, ToolError

NOW = datetime(2026, 5, 10, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", "2026-05-10T11:58:30+00:00"),
        ("15m", "2026-05-10T11:45:00+00:00"),
        ("2h", "2026-05-10T10:00:00+00:00"),
        ("1d", "2026-05-09T12:00:00+00:00"),
        ("2w", "2026-04-26T12:00:00+00:00"),
        ("2026-05-01T08:00:00Z", "2026-05-01T08:00:00+00:00"),
        ("2026-05-01T08:00:00+02:00", "2026-05-01T06:00:00+00:00"),
    ],
)
def test_moments_are_durations_ago_or_times_with_a_zone(text, moment):
    assert moments.parse(text, NOW).isoformat() == moment


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01T08:00:00",
        "yesterday",
        "5y",
        "",
        "999999w",
        "999999d",
        "٣h",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1969-12-31T23:59:59Z",
        "999999h",
    ],
)
def test_anything_else_is_an_error(text):
    with pytest.raises(ToolError) as caught:
        moments.parse(text, NOW)
    assert caught.value.code is ErrorCode.PARAMETER_INVALID
