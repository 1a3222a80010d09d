"""An inline function's code, run apart from everything."""

import json

from eventstacks.flow import running
from eventstacks.flow.resolution import Resource


def function(code, **more):
    given = {
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Timeout": 20,
        "Code": {"ZipFile": code},
        **more,
    }
    return Resource("F", "AWS::Lambda::Function", given, "f", "f", "arn:f", region="eu-west-1")


def test_it_receives_the_payload_and_answers():
    code = "import logging\ndef handler(event, context):\n    print('said'); logging.getLogger().error('logged')\n    return event['a'] + 1"
    done = running.run(function(code), '{"a": 1}')
    assert (done.ok, done.result) == (True, "2")
    assert "said" in done.log
    assert "logged" in done.log


def test_it_sees_its_own_variables_and_no_credentials(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("HOME_OF_MINE", "x")
    code = "import os\ndef handler(event, context): return dict(os.environ)"
    seen = json.loads(
        running.run(function(code, Environment={"Variables": {"TABLE": "t"}}), "{}").result
    )
    assert (seen["TABLE"], seen["AWS_REGION"]) == ("t", "eu-west-1")
    assert not {"AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "HOME_OF_MINE"} & seen.keys()


def test_a_failure_is_told():
    done = running.run(function("def handler(event, context): raise KeyError('oh')"), "{}")
    assert not done.ok
    assert "KeyError: 'oh'" in done.log


def test_it_is_stopped_after_its_timeout():
    done = running.run(
        function("import time\ndef handler(event, context): time.sleep(60)", Timeout=1), "{}"
    )
    assert not done.ok
    assert "Timeout" in done.log


def test_a_timeout_that_only_aws_knows_is_lambdas_own():
    assert running.run(
        function("def handler(event, context): return 1", Timeout="⟨Timeout?⟩"), "{}"
    ).ok


def test_other_functions_are_not_run():
    assert running.run(function("x", Runtime="nodejs22.x"), "{}") is None
    assert running.run(function("x", Code={"S3Bucket": "b"}), "{}") is None
