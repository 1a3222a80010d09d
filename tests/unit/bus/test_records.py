from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstacks.bus.entries import RECORD_LIMIT, RecordsError, read_records
from eventstacks.errors import ErrorCode


class Trickle(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self.step = step

    def read(self, size: int = -1, /) -> bytes:
        return super().read(min(size, self.step))


def read(data: bytes, step: int = 1 << 20) -> list[bytes]:
    return [record for records in read_records([Trickle(data, step)]) for record in records]


STEPS = [1, 2, 3, 7, 1 << 20]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n \r\n", []),
        (b"\xef\xbb\xbf", []),
        (b'{"a":1}', [b'{"a":1}']),
        (b'\xef\xbb\xbf{"a":1}\r\n\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\nnonsense\n[1]\n{', [b'{"a":1}', b"nonsense", b"[1]", b"{"]),
        (b'\xff\xfe\n{"a":1}', [b"\xff\xfe", b'{"a":1}']),
        (b'{}\n{"b":2}\n', [b"{}", b'{"b":2}']),
        (b"[]", []),
        (b" [ ] \n", []),
        (
            b'\xef\xbb\xbf[{"a":[1,{"b":"],}\\""}]}, 2 ,\n{}]\n',
            [b'{"a":[1,{"b":"],}\\""}]}', b"2", b"{}"],
        ),
        (b' {\n  "a": {"b": "}"}\n}\n', [b'{\n  "a": {"b": "}"}\n}']),
        (b'{ \r\n "c": 2}', [b'{ \r\n "c": 2}']),
    ],
)
def test_every_form_of_input_is_split_into_records(data, expected, step):
    assert read(data, step) == expected


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b'{"b":"2',
        b",1]",
        b"2 3]",
        b"}",
        b'{"b":}]',
        b'"\\x"]',
        b"nonsense" + b" " * 50,
        b"tru" + b" " * 50,
        b"[NaN]]" + b" " * 50,
        b"[" * 100_000,
        b"2] 3",
        b'2]\n[{"b":2}]',
    ],
)
def test_invalid_input_is_an_error_after_the_records_before_it(rest, step):
    found = []
    lists = read_records([Trickle(b'[{"a":1},' + rest, step if len(rest) < 1000 else 1 << 20)])

    def read_all() -> None:
        for records in lists:
            found.extend(records)

    with pytest.raises(RecordsError) as caught:
        read_all()
    assert found[0] == b'{"a":1}'
    assert caught.value.code is ErrorCode.DOCUMENT_INVALID


def test_the_error_names_the_file_and_record(tmp_path):
    (tmp_path / "cut.json").write_bytes(b'[1,{"a":')
    with (
        (tmp_path / "cut.json").open("rb", buffering=0) as file,
        pytest.raises(RecordsError) as caught,
    ):
        list(read_records([file]))
    assert caught.value.where.endswith("cut.json, record 2")


def test_records_are_numbered_across_sources():
    sources = [io.BytesIO(data) for data in (b"1\n2", b"", b"[3,4]", b"[5,}")]
    found = []
    with pytest.raises(RecordsError) as caught:
        found.extend(record for records in read_records(sources) for record in records)
    assert (found, caught.value.where) == ([b"1", b"2", b"3", b"4", b"5"], "stdin, record 6")


@pytest.mark.parametrize("begin", [b"", b'["', b"{\n"])
def test_a_record_without_end_is_an_error(begin):
    with pytest.raises(RecordsError, match="a record of more than"):
        read(begin + b"x" * (RECORD_LIMIT * 2))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(
        st.dictionaries(st.text(), JSON, min_size=1, max_size=3), min_size=1, max_size=5
    ),
    step=st.integers(1, 50),
    indent=st.sampled_from([None, 1]),
)
def test_every_form_gives_the_same_records(values, step, indent):
    as_lines = "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode(
        "utf-8", "surrogatepass"
    )
    as_array = json.dumps(values, indent=indent, ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )
    for data in (as_lines, as_array):
        assert [
            json.loads(record.decode("utf-8", "surrogatepass")) for record in read(data, step)
        ] == values
