from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

from eventstacks.bus import entries
from eventstacks.bus.entries import SIZE_LIMIT, EntryError

ENTRY = {"Source": "a.b", "DetailType": "x", "Detail": "{}"}


def read(value, **defaults) -> tuple[dict, int]:
    record = value if isinstance(value, bytes) else json.dumps(value).encode()
    return entries.read_entry(record, **defaults)


def fields(value, **defaults) -> dict:
    return read(value, **defaults)[0]


def rejection(value, **defaults) -> str:
    with pytest.raises(EntryError) as caught:
        read(value, **defaults)
    return caught.value.args[0]


def test_an_entry_as_put_events_takes_it():
    given = {
        **ENTRY,
        "Time": "2020-03-29T12:00:00+02:00",
        "Resources": ["arn:é"],
        "TraceHeader": "Root=1",
        "EventBusName": "orders",
    }
    entry, size = read(given)
    assert entry == {**given, "Time": datetime(2020, 3, 29, 10, tzinfo=UTC)}
    assert size == 3 + 1 + 2 + 14 + 6


@pytest.mark.parametrize(
    "text", ["1585476000", "1585476000.5", '"2020-03-29T10:00:00Z"', '"2020-03-29T12:00+02:00"']
)
def test_formats_of_times(text):
    record = f'{{"Source":"a","DetailType":"x","Detail":"{{}}","Time":{text}}}'.encode()
    moment = fields(record)["Time"].replace(microsecond=0)
    assert moment == datetime(2020, 3, 29, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "detail",
    [
        '{"n": 1.10, "big": 123456789012345678901234567890, "tiny": 1e-400, "n": 2}',
        '{"digits": ' + "9" * 5000 + "}",
        '{ "text": "\\ud800 \\u0000", "ü": [] }',
        "{}",
    ],
)
def test_a_detail_is_passed_on_as_it_was_written(detail):
    as_object = '{"DetailType":"x", "Detail" : ' + detail + ' , "Source":"a.b"}'
    assert fields(as_object.encode())["Detail"] == detail
    assert fields({**ENTRY, "Detail": detail})["Detail"] == detail
    assert fields(f" {detail}\r".encode(), source="a.b", detail_type="x")["Detail"] == detail
    event = (
        '{"source":"a.b","detail-type":"x","detail":'
        + detail
        + ',"time":"2020-01-01T00:00:00Z","id":"1"}'
    )
    assert fields(event.encode()) == {
        "Source": "a.b",
        "DetailType": "x",
        "Detail": detail,
        "Time": datetime(2020, 1, 1, tzinfo=UTC),
    }


def test_a_sample_is_its_event():
    event = '{"source": "a", "detail-type": "b", "detail": {"n": 1.10}}'
    sample = f'{{"event": {event}, "expect": {{"Rule": ["Target"]}}}}'
    assert read(sample.encode()) == read(event.encode())
    just_a_detail = b'{"event": {"n": 1}}'
    assert read(just_a_detail, source="a", detail_type="b")[0]["Detail"] == just_a_detail.decode()


def test_a_detail_with_the_name_of_a_field_is_still_a_detail():
    assert json.loads(fields({"Source": "oven"}, source="a.b", detail_type="x")["Detail"]) == {
        "Source": "oven"
    }
    detail = {"Rejected": {"Code": "no"}, "id": 1}
    assert json.loads(fields(detail, source="a.b", detail_type="x")["Detail"]) == detail


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (b"\xff{}", "InvalidUtf8"),
        (b"{", "InvalidJson"),
        (b"", "InvalidJson"),
        (b'{"a": NaN}', "InvalidJson"),
        (b"[]", "MalformedDetail"),
        (b"1", "MalformedDetail"),
        (b"null", "MalformedDetail"),
        ({**ENTRY, "Source": ""}, "InvalidArgument"),
        ({**ENTRY, "Source": 5}, "InvalidArgument"),
        ({"DetailType": "x", "Detail": "{}"}, "InvalidArgument"),
        ({"Source": "a", "Detail": "{}"}, "InvalidArgument"),
        ({"Source": "a", "DetailType": "x"}, "InvalidArgument"),
        ({**ENTRY, "Resource": []}, "InvalidArgument"),
        ({**ENTRY, "Resources": "arn"}, "InvalidArgument"),
        ({**ENTRY, "Resources": [1]}, "InvalidArgument"),
        ({**ENTRY, "Detail": "[]"}, "MalformedDetail"),
        ({**ENTRY, "Detail": "{"}, "MalformedDetail"),
        ({**ENTRY, "Detail": [1]}, "MalformedDetail"),
        ({**ENTRY, "Detail": 5}, "MalformedDetail"),
        ({**ENTRY, "Time": "2020-03-29T12:00:00"}, "InvalidArgument"),
        ({**ENTRY, "Time": "now"}, "InvalidArgument"),
        (b'{"Source":"a","DetailType":"x","Detail":"{}","Time":1e999}', "InvalidArgument"),
        ({**ENTRY, "Time": []}, "InvalidArgument"),
        ({**ENTRY, "Time": "0001-01-01T00:00:00+14:00"}, "InvalidArgument"),
        ({**ENTRY, "EventBusName": ""}, "InvalidArgument"),
        ({**ENTRY, "TraceHeader": 1}, "InvalidArgument"),
        ({**ENTRY, "Rejected": {}, "Detail": 5}, "MalformedDetail"),
        (b'{"Source":"\\ud800","DetailType":"x","Detail":"{}"}', "InvalidUtf8"),
        (b'{"Source":"x","DetailType":"x","Detail":"{}","TraceHeader":"\\ud800"}', "InvalidUtf8"),
        (b'{"Source":"x","DetailType":"x","Detail":"{}","EventBusName":"\\ud800"}', "InvalidUtf8"),
    ],
)
def test_invalid_records_are_rejected_before_sending(record, code):
    assert rejection(record) == code


@pytest.mark.parametrize(
    ("field", "limit"), [("DetailType", 128), ("TraceHeader", 500), ("EventBusName", 1600)]
)
def test_limits_of_lengths(field, limit):
    assert fields({**ENTRY, field: "ü" * limit})[field] == "ü" * limit
    assert rejection({**ENTRY, field: "ü" * (limit + 1)}) == "InvalidArgument"


@pytest.mark.parametrize("name", ["Source", "DetailType", "Detail"])
def test_a_missing_field_is_named(name):
    record = json.dumps({key: value for key, value in ENTRY.items() if key != name}).encode()
    with pytest.raises(EntryError) as caught:
        entries.read_entry(record)
    assert caught.value.args[1].startswith(f"{name} is missing")


def test_a_source_longer_than_an_entry_is_refused():
    assert rejection({**ENTRY, "Source": "x" * (SIZE_LIMIT + 1)}) == "InvalidArgument"


def test_the_size_of_an_entry_is_under_one_megabyte():
    def entry(size: int) -> dict:
        return {
            **ENTRY,
            "Time": 1,
            "Resources": ["é"],
            "Detail": '{"":"' + "x" * (size - 14 - 2 - 4 - 7) + '"}',
        }

    assert read(entry(SIZE_LIMIT - 1))[1] == SIZE_LIMIT - 1
    assert rejection(entry(SIZE_LIMIT)) == "EntryTooLarge"
    assert rejection(entry(SIZE_LIMIT + 1)) == "EntryTooLarge"


@pytest.mark.parametrize(
    "form", ["{detail}", '{{"Source":"a","DetailType":"x","Detail":{detail}}}', "{escaped}"]
)
@pytest.mark.usefixtures("usual_depth")
def test_limit_of_nesting(form):
    def record(levels: int) -> bytes:
        detail = '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)
        return form.format(detail=detail, escaped=json.dumps({**ENTRY, "Detail": detail})).encode()

    defaults = {"source": "a", "detail_type": "x"} if form == "{detail}" else {}
    assert read(record(800), **defaults)
    limit = sys.getrecursionlimit()
    assert rejection(record(100_000), **defaults) == "MalformedDetail"
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("line", [b'{"id": 1}', b'{"Raw": 1}', b'{"Raw": '])
def test_only_a_rejected_line_is_unwrapped(line):
    assert entries.unwrap(line) == line
    wrapped = {"Raw": "x\udcff", "Rejected": {"Code": "InvalidUtf8", "Record": 1}}
    assert entries.unwrap(json.dumps(wrapped).encode()) == b"x\xff"


def test_brackets_in_strings_do_not_count_as_nesting():
    assert read({"text": "[{" * 5000}, source="a", detail_type="x")
