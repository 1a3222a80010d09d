"""The code that is inlined into s3-object-events, as the Lambda runtime would call it."""

import importlib.util
import logging
from pathlib import Path

import pytest

FILE = Path(__file__).parents[3] / "templates" / "functions" / "log_object.py"


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location("log_object", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


THROUGH_CLOUDTRAIL = {
    "id": "e-1",
    "detail-type": "AWS API Call via CloudTrail",
    "detail": {
        "responseElements": {"x-amz-version-id": "v7"},
        "eventName": "CompleteMultipartUpload",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ana"},
        "requestParameters": {"bucketName": "data", "key": "a/b.csv"},
    },
}
FROM_S3 = {
    "id": "e-2",
    "detail-type": "Object Created",
    "detail": {
        "bucket": {"name": "data"},
        "object": {"key": "a/b.csv", "size": 3, "sequencer": "0A"},
        "reason": "PutObject",
        "requester": "111122223333",
    },
}


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (
            THROUGH_CLOUDTRAIL,
            {
                "eventId": "e-1",
                "version": "v7",
                "call": "CompleteMultipartUpload",
                "caller": "arn:aws:iam::111122223333:user/ana",
            },
        ),
        (
            FROM_S3,
            {"eventId": "e-2", "version": "0A", "call": "PutObject", "caller": "111122223333"},
        ),
    ],
)
def test_it_logs_what_was_created(module, caplog, event, wanted):
    with caplog.at_level(logging.INFO):
        module.handler(event, None)
    (record,) = caplog.records
    logged = {"bucket": "data", "key": "a/b.csv", **wanted}
    assert {key: getattr(record, key) for key in logged} == logged


@pytest.mark.parametrize(
    ("identity", "caller"),
    [
        ({"type": "AWSAccount", "accountId": "444455556666", "principalId": "A"}, "444455556666"),
        ({"type": "AWSService", "invokedBy": "backup.amazonaws.com"}, "backup.amazonaws.com"),
        ({"type": "AWSService"}, "unknown"),
    ],
)
def test_callers_without_an_arn_are_named(module, identity, caller):
    """Source: CloudTrail record reference, userIdentity element."""
    assert module.caller_of(identity) == caller


def test_a_write_without_a_response_has_no_version(module):
    detail = {**THROUGH_CLOUDTRAIL["detail"], "responseElements": None}
    assert module.summarize({**THROUGH_CLOUDTRAIL, "detail": detail})["version"] == ""


def test_an_event_of_another_kind_fails_so_that_lambda_keeps_it(module):
    with pytest.raises(KeyError):
        module.handler({"detail-type": "Object Deleted", "detail": {}}, None)
