from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstacks.bus import records
from eventstacks.bus.records import RECORD_LIMIT, RecordsError
from eventstacks.errors import ErrorCode


class Trickle(io.BytesIO):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self.step = step

    def read(self, size: int = -1, /) -> bytes:
        return super().read(min(size, self.step))


def read(data: bytes, step: int = 1 << 20) -> list[bytes]:
    return [record for chunk in records.read([Trickle(data, step)]) for record in chunk.records]


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
        (
            b'[{"a":1}]\n[{"b":2},{"c":3}] {"d":4}\n',
            [b'{"a":1}', b'{"b":2}', b'{"c":3}', b'{"d":4}'],
        ),
        (b'{\n  "a": {"b": "}"}\n}\n{\r\n "c": 2}', [b'{\n  "a": {"b": "}"}\n}', b'{\r\n "c": 2}']),
    ],
)
def test_forms(data, expected, step):
    assert read(data, step) == expected


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b'{"b":"2',
        b",]",
        b",1]",
        b"2 3]",
        b"}",
        b'{"b":}]',
        b'"\\x"]',
        b"nonsense" + b" " * 50,
        b"tru" + b" " * 50,
        b"[NaN]]" + b" " * 50,
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_split_is_an_error_after_the_records_before_it(rest, step):
    found = []
    chunks = records.read([Trickle(b'[{"a":1},' + rest, step if len(rest) < 1000 else 1 << 20)])

    def read_all() -> None:
        for chunk in chunks:
            found.extend(chunk.records)

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
        list(records.read([file]))
    assert caught.value.where.endswith("cut.json, record 2")


def test_sources_are_numbered_through():
    chunks = records.read([io.BytesIO(b"1\n2"), io.BytesIO(b""), io.BytesIO(b"[3,4]")])
    found = [(chunk.first + at, one) for chunk in chunks for at, one in enumerate(chunk.records)]
    assert found == [(0, b"1"), (1, b"2"), (2, b"3"), (3, b"4")]


def test_a_line_without_end_is_cut():
    data = b"x" * (RECORD_LIMIT * 2) + b'\n{"a":1}\n'
    assert [len(record) for record in read(data)] == [RECORD_LIMIT, 7]


def test_an_element_without_end_is_an_error():
    with pytest.raises(RecordsError, match="a record of more than"):
        read(b'["' + b"x" * (RECORD_LIMIT * 2))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=60, deadline=None)
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
    as_documents = "\n".join(json.dumps(value, indent=2) for value in values).encode()
    for data in (as_lines, as_array, as_documents):
        assert [
            json.loads(record.decode("utf-8", "surrogatepass")) for record in read(data, step)
        ] == values
