"""tail as an operator runs it, against a stack on the embedded AWS."""

import json
import signal
import time

import pytest
from operators import PATIENCE, REGION
from waiting import eventually

from eventstacks.bus import tail


def test_tail_shows_every_log_group_of_the_stack_in_the_order_of_time(operate):
    one = operate("s3-object-events")
    for key in ("first", "second"):
        one.client("s3").put_object(Bucket=one.outputs["DataBucketName"], Key=key, Body=b"x")
        eventually(
            lambda key=key: any(
                f'"key": "{key}"' in line for line in one.logged("FunctionLogGroupName")
            )
        )
    lines = [json.loads(line) for line in one.run("tail", "--once", "--json").stdout.splitlines()]
    assert {line["log_group"] for line in lines} == {
        one.outputs["EventLogGroupName"],
        one.outputs["FunctionLogGroupName"],
    }
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert len({line["id"] for line in lines}) == len(lines)
    messages = [line["message"] for line in lines if isinstance(line["message"], dict)]
    events = [one for one in messages if "detail" in one]
    assert [event["detail"]["requestParameters"]["key"] for event in events] == ["first", "second"]


def test_tail_takes_a_filter_and_a_begin_and_prints_raw_messages(operate):
    one = operate("custom-event-bus")
    for marker in ("apple", "pear"):
        one.put(marker)
    eventually(lambda: len(one.logged()) == 2)
    assert [
        json.loads(line)["detail"]["marker"]
        for line in one.run("tail", "--once", "--raw").stdout.splitlines()
    ] == [
        "apple",
        "pear",
    ]
    pears = one.run("tail", "--once", "--raw", "--filter", "pear").stdout.splitlines()
    assert [json.loads(line)["detail"]["marker"] for line in pears] == ["pear"]
    assert one.run("tail", "--once", "--since", "2100-01-01T00:00:00Z").stdout == ""


def test_tail_follows_until_interrupted(operate):
    one = operate("custom-event-bus")
    one.put("before")
    eventually(one.logged)
    process, _ = one.start("tail", "--raw", until="log group")
    assert json.loads(process.stdout.readline())["detail"] == {"marker": "before"}
    one.put("meanwhile")
    assert json.loads(process.stdout.readline())["detail"] == {"marker": "meanwhile"}
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest) == (130, "")
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_tail_of_a_bus_leaves_nothing_behind(operate, number):
    one = operate("custom-event-bus")
    process, _ = one.start("tail", "--bus", "--json", until="Following")
    assert [len(names) for names in one.taps()] == [1, 1]
    one.put("seen")
    line = json.loads(process.stdout.readline())
    assert (line["bus"], line["message"]["detail"]) == (one.bus, {"marker": "seen"})
    while process.poll() is None:  # an impatient user
        process.send_signal(number)
        time.sleep(0.005)
    assert process.returncode == 130
    assert "Traceback" not in process.stderr.read()
    assert one.taps() == ([], [])


def test_tail_of_a_bus_takes_an_event_pattern(operate):
    one = operate("custom-event-bus")
    process, _ = one.start(
        "tail", "--bus", "--raw", "--filter", '{"detail-type": ["OrderPaid"]}', until="Following"
    )
    one.put("placed")
    one.put("paid", DetailType="OrderPaid")
    assert json.loads(process.stdout.readline())["detail"] == {"marker": "paid"}
    refused = one.run("tail", "--bus", "--filter", '{"detail-type": []}', code=1)
    assert "Empty arrays are not allowed" in refused.stderr
    assert len(one.taps()[0]) == 1


def test_tail_of_a_stack_without_a_bus_follows_the_default_bus(operate):
    one = operate("s3-object-events")
    process, said = one.start(
        "tail", "--bus", "--raw", "--filter", json.dumps({"source": [one.name]}), until="Following"
    )
    assert "bus default" in said
    one.put("default", Source=one.name)
    assert json.loads(process.stdout.readline())["source"] == one.name


def test_a_reader_that_has_seen_enough_ends_the_tap(operate):
    one = operate("custom-event-bus")
    process, _ = one.start("tail", "--bus", "--raw", until="Following")
    process.stdout.close()
    for number in range(3):
        one.put(str(number))
    process.wait(PATIENCE)
    assert one.taps() == ([], [])


def test_tail_of_a_bus_that_is_not_there_says_so(operate):
    one = operate("custom-event-bus")
    assert "nowhere" in one.run("tail", "--bus", "nowhere", code=1).stderr


def test_what_a_killed_run_leaves_is_removed_by_a_later_one_and_a_living_run_goes_on(operate):
    one = operate("custom-event-bus")
    living, _ = one.start("tail", "--bus", "--raw", until="Following")
    killed, said = one.start("tail", "--bus", "--raw", until="Following")
    dead = said.split("through ")[1].split(";")[0]
    killed.send_signal(signal.SIGKILL)
    killed.wait(PATIENCE)
    assert tail.remove_stale(one.aws, REGION) == []
    assert [dead in names for names in one.taps()] == [True, True]
    sqs, old = one.client("sqs"), int(time.time() - tail.STALE_AFTER_SECONDS - 1)
    url = sqs.get_queue_url(QueueName=dead)["QueueUrl"]
    sqs.tag_queue(QueueUrl=url, Tags={"heartbeat": str(old)})
    _, said = one.start("tail", "--bus", "--raw", until="Following")
    assert f"Removed {dead}" in said
    assert [(dead in names, len(names)) for names in one.taps()] == [(False, 2), (False, 2)]
    one.put("still there")
    assert json.loads(living.stdout.readline())["detail"] == {"marker": "still there"}
