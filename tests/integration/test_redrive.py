"""redrive as an operator runs it, against a stack on the embedded AWS."""

import json
import signal

from operators import PATIENCE
from waiting import eventually

from eventstacks.errors import ErrorCode, ToolError


def test_messages_are_listed_by_rule_target_and_code_and_kept(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    for marker in ("apple", "pear"):
        one.put(marker)
    eventually(lambda: len(one.dead_letter_messages()) == 2)
    (found,) = json.loads(one.run("redrive", "--json").stdout)
    assert (found["rule"], found["code"], found["messages"]) == (
        one.outputs["CatchAllRuleArn"],
        "NO_PERMISSIONS",
        2,
    )
    assert found["target"].endswith(one.outputs["EventLogGroupName"])
    assert found["example"]["detail"]["marker"] in ("apple", "pear")
    assert len(one.dead_letter_messages()) == 2
    _, line = one.run("redrive").stdout.splitlines()
    assert line.startswith("2\t")
    assert "\tNO_PERMISSIONS\t" in line


def test_messages_are_redelivered_and_deleted_from_the_queue(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    for marker in ("apple", "pear"):
        one.put(marker)
    eventually(lambda: len(one.dead_letter_messages()) == 2)
    bodies = {message["Body"] for message in one.dead_letter_messages()}
    done = one.run("redrive", "--to", "target", "--rate", "50", "--yes", "--json")
    assert json.loads(done.stdout) == {"to": "target", "sent": 2, "kept": 0, "problems": []}
    assert sorted(map(json.loads, one.logged()), key=str) == sorted(
        map(json.loads, bodies), key=str
    )
    assert one.dead_letter_messages() == []


def test_a_target_gets_what_its_rule_makes_of_the_event(operate):
    one = operate("custom-event-bus")
    sqs = one.client("sqs")
    url = sqs.create_queue(QueueName=one.name)["QueueUrl"]  # no policy: EventBridge may not
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    target = {
        "Id": "queue",
        "Arn": arn,
        "DeadLetterConfig": {"Arn": one.outputs["DeadLetterQueueArn"]},
        "InputTransformer": {
            "InputPathsMap": {"what": "$.detail.marker"},
            "InputTemplate": '{"marked": <what>}',
        },
    }
    rule = one.outputs["CatchAllRuleArn"].rsplit("/", 1)[-1]
    one.client("events").put_targets(Rule=rule, EventBusName=one.bus, Targets=[target])
    one.put("apple")
    eventually(one.dead_letter_messages)
    one.run("redrive", "--to", "target", "--yes")
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"]) == {"marked": "apple"}
    assert one.dead_letter_messages() == []
    sqs.delete_queue(QueueUrl=url)


def test_messages_that_still_cannot_be_delivered_return_to_the_queue(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    one.put("apple")
    (before,) = eventually(one.dead_letter_messages)
    done = one.run("redrive", "--to", "bus", "--yes")
    assert "1 redelivered" in done.stdout
    (after,) = eventually(one.dead_letter_messages)
    assert after["MessageId"] != before["MessageId"]
    assert json.loads(after["Body"])["detail"] == {"marker": "apple"}


def test_a_message_whose_target_was_deleted_stays_in_the_queue(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    one.put("apple")
    (before,) = eventually(one.dead_letter_messages)
    events, rule = one.client("events"), one.outputs["CatchAllRuleArn"].rsplit("/", 1)[-1]
    targets = events.list_targets_by_rule(Rule=rule, EventBusName=one.bus)["Targets"]
    events.remove_targets(Rule=rule, EventBusName=one.bus, Ids=["EventLogGroup"])
    done = one.run("redrive", "--to", "target", "--yes", code=1)
    assert "the rule has no target" in done.stderr
    assert [message["MessageId"] for message in one.dead_letter_messages()] == [before["MessageId"]]
    assert one.logged() == []
    events.put_targets(Rule=rule, EventBusName=one.bus, Targets=targets)
    one.run("redrive", "--to", "target", "--yes")
    assert [json.loads(line)["detail"] for line in one.logged()] == [{"marker": "apple"}]


def test_events_of_aws_cannot_go_back_to_the_bus_and_stay(operate):
    one = operate("s3-object-events", LogsPolicyScope="none")
    one.client("s3").put_object(Bucket=one.outputs["DataBucketName"], Key="key", Body=b"x")
    eventually(one.dead_letter_messages)
    done = one.run("redrive", "--to", "bus", "--yes", code=1)
    assert "aws.s3" in done.stderr
    assert "--to target" in done.stderr
    assert len(one.dead_letter_messages()) == 1
    one.run("redrive", "--to", "target", "--yes")
    assert [json.loads(line)["source"] for line in one.logged()] == ["aws.s3"]
    assert one.dead_letter_messages() == []


def test_an_interrupted_run_lets_go_of_what_it_did_not_send(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    for marker in ("apple", "pear", "plum"):
        one.put(marker)
    eventually(lambda: len(one.dead_letter_messages()) == 3)
    process, _ = one.start(
        "redrive", "--to", "target", "--rate", "0.01", "--yes", until="3 dead-letter messages"
    )
    eventually(one.logged)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url, sqs = one.outputs["DeadLetterQueueUrl"], one.client("sqs")

    def held():
        return sum(
            map(
                int,
                sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values(),
            )
        )

    eventually(lambda: held() == 2)  # what was sent is removed as well
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "1 redelivered" in out
    assert "Traceback" not in said
    left = {
        json.loads(message["Body"])["detail"]["marker"] for message in one.dead_letter_messages()
    }
    assert left | {json.loads(line)["detail"]["marker"] for line in one.logged()} == {
        "apple",
        "pear",
        "plum",
    }
    assert len(left) == 2


def test_only_what_is_meant_is_sent(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    one.put("apple")
    eventually(one.dead_letter_messages)
    assert (
        "0 dead-letter messages"
        in one.run("redrive", "--to", "target", "--only", "NO_RESOURCE", "--yes").stderr
    )
    assert "YES=1" in one.run("redrive", "--to", "target", code=2).stderr
    none = one.run("redrive", "--to", "target", "--only", "NO_RESOURCE", "--json", "--yes")
    assert json.loads(none.stdout) == {"to": "target", "sent": 0, "kept": 0, "problems": []}
    assert len(one.dead_letter_messages()) == 1
    assert one.logged() == []


def test_no_is_an_answer(operate, monkeypatch):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    one.put("apple")
    eventually(one.dead_letter_messages)

    def no(*_, **__):
        raise ToolError("not confirmed", code=ErrorCode.DECLINED)

    monkeypatch.setattr("eventstacks.cli.output.confirm", no)
    for options in (("redrive", "--to", "target"), ("archive-replay", "--since", "1h")):
        done = one.run(*options, "--json", code=1)
        assert json.loads(done.stdout)["error"]["code"] == ErrorCode.DECLINED
    assert len(one.dead_letter_messages()) == 1


def test_what_a_function_gave_up_on_goes_back_to_the_function(operate):
    one = operate("s3-object-events")
    functions, name = one.client("lambda"), one.outputs["FunctionArn"]
    functions.put_function_event_invoke_config(
        FunctionName=name,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": one.outputs["DeadLetterQueueArn"]}},
    )
    event = {
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "b"}, "reason": "PutObject", "object": {"key": "k"}},
    }
    functions.invoke(
        FunctionName=name, InvocationType="Event", Payload=json.dumps(event)
    )  # without requester: it fails
    (before,) = eventually(one.dead_letter_messages)
    (found,) = json.loads(one.run("redrive", "--json").stdout)
    assert (found["rule"], found["code"], found["message"]) == (
        None,
        "RetriesExhausted",
        "'requester'",
    )
    assert found["example"] == event
    assert "--to target" in one.run("redrive", "--to", "bus", "--yes", code=1).stderr
    one.run("redrive", "--to", "target", "--yes")
    after = eventually(
        lambda: [message["MessageId"] for message in one.dead_letter_messages()]
    )  # it fails again, and is kept
    assert after != [before["MessageId"]]
    assert len(after) == 1
