"""The code that is inlined into s3-object-events, as the Lambda runtime would call it."""

import importlib.util
import json
import logging
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent.parent / "templates" / "functions" / "log_object.py"


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location("log_object", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


THROUGH_CLOUDTRAIL = {
    "detail-type": "AWS API Call via CloudTrail",
    "detail": {
        "eventName": "CompleteMultipartUpload",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ana"},
        "requestParameters": {"bucketName": "data", "key": "a/b.csv"},
    },
}
FROM_S3 = {
    "detail-type": "Object Created",
    "detail": {
        "bucket": {"name": "data"},
        "object": {"key": "a/b.csv", "size": 3},
        "reason": "PutObject",
        "requester": "111122223333",
    },
}


@pytest.mark.parametrize(
    ("event", "call", "caller"),
    [
        (THROUGH_CLOUDTRAIL, "CompleteMultipartUpload", "arn:aws:iam::111122223333:user/ana"),
        (FROM_S3, "PutObject", "111122223333"),
    ],
)
def test_it_logs_what_was_created(module, caplog, event, call, caller):
    with caplog.at_level(logging.INFO):
        answer = module.handler(event, None)
    wanted = {"bucket": "data", "key": "a/b.csv", "call": call, "caller": caller}
    assert answer == wanted
    assert json.loads(caplog.messages[0].removeprefix("Object created: ")) == wanted


def test_a_caller_without_a_name_is_said_to_be_unknown(module):
    detail = {**THROUGH_CLOUDTRAIL["detail"], "userIdentity": {"type": "AWSService"}}
    assert module.summarize({**THROUGH_CLOUDTRAIL, "detail": detail})["caller"] == "unknown"


def test_an_event_of_another_kind_fails_so_that_lambda_keeps_it(module):
    with pytest.raises(KeyError):
        module.handler({"detail-type": "Object Deleted", "detail": {}}, None)
