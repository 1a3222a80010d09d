from __future__ import annotations

import json

import pytest

from eventstacks.bus import entries, samples
from eventstacks.bus.entries import to_json
from eventstacks.errors import ErrorCode, ToolError

ENVELOPE = {
    "version",
    "id",
    "detail-type",
    "source",
    "account",
    "time",
    "region",
    "resources",
    "detail",
}


@pytest.mark.parametrize("kind", samples.kinds())
def test_every_sample_has_the_envelope_and_can_be_sent(kind):
    event = samples.make(kind, {})
    assert event.keys() == ENVELOPE
    assert json.loads(entries.read(to_json(event)).body)["Source"] == event["source"]


def test_what_repeats_a_field_follows_it():
    event = samples.make(
        "s3-put-object-via-cloudtrail",
        {"detail.requestParameters.bucketName": "mine", "account": "000000000000"},
    )
    assert event["detail"]["requestParameters"]["Host"] == "mine.s3.us-east-1.amazonaws.com"
    assert event["detail"]["resources"][0]["ARN"] == "arn:aws:s3:::mine/uploads/report.csv"
    assert event["detail"]["userIdentity"]["arn"] == "arn:aws:iam::000000000000:user/ada"


def test_lists_and_new_fields():
    event = samples.make(
        "order-placed", {"detail.items.0.count": 7, "detail.coupon": {"code": "x"}}
    )
    assert (event["detail"]["items"][0]["count"], event["detail"]["coupon"]) == (7, {"code": "x"})


@pytest.mark.parametrize("path", ["nonsense", "detail.items.9", "detail.id.x", "resources.x"])
def test_a_field_that_is_not_there_is_an_error(path):
    with pytest.raises(ToolError) as caught:
        samples.make("order-placed", {path: 1})
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert path in caught.value.what


def test_a_kind_that_is_not_there_is_an_error():
    with pytest.raises(ToolError, match="order-placed") as caught:
        samples.make("order-place", {})
    assert caught.value.code is ErrorCode.NOT_FOUND
