# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

import json
import time

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from tests.unit.bus.operations import FakeAws, Service, TurningClock

from eventstacks.aws import Cancelled
from eventstacks.bus import dead_letters
from eventstacks.bus.dead_letters import DeadLetterQueue, NotRedeliveredError

RULE = "arn:aws:events:r:1:rule/bus/all"
TARGET = "arn:aws:sqs:r:1:queue"
EVENT = {"source": "com.example", "detail-type": "T", "detail": {}, "time": "2026-05-01T08:00:00Z"}
REFUSED = ClientError({"Error": {"Code": "InternalError", "Message": "no"}}, "DeleteMessage")


def message(number, body=None, **attributes):
    given = {
        "RULE_ARN": RULE,
        "TARGET_ARN": TARGET,
        "ERROR_CODE": "NO_PERMISSIONS",
        "ERROR_MESSAGE": "no",
    } | attributes
    why = {key: {"StringValue": value} for key, value in given.items() if value}
    return {
        "MessageId": str(number),
        "ReceiptHandle": f"h{number}",
        "MessageAttributes": why,
        "Body": json.dumps({**EVENT, "id": number} if body is None else body),
    }


class Queue(Service):
    """A queue; what is received is hidden until it is released."""

    def __init__(self, *messages):
        self.visible, self.hidden, self.fails = list(messages), {}, {}
        self.extended, self.is_down = [], False

    def receive_message(self, MaxNumberOfMessages, VisibilityTimeout=120, **_):
        assert VisibilityTimeout == dead_letters.VISIBILITY_TIMEOUT
        found, self.visible = self.visible[:MaxNumberOfMessages], self.visible[MaxNumberOfMessages:]
        self.hidden |= {one["ReceiptHandle"]: one for one in found}
        return {"Messages": found} if found else {}

    def delete_message(self, QueueUrl, ReceiptHandle):
        if ReceiptHandle in self.fails:
            raise self.fails[ReceiptHandle]
        del self.hidden[ReceiptHandle]

    def get_queue_attributes(self, QueueUrl, AttributeNames):
        counts = {
            "ApproximateNumberOfMessages": len(self.visible),
            "ApproximateNumberOfMessagesNotVisible": len(self.hidden),
        }
        return {"Attributes": {name: str(counts[name]) for name in AttributeNames}}

    def change_message_visibility_batch(self, QueueUrl, Entries):
        if self.is_down:
            raise REFUSED
        self.extended += [one["VisibilityTimeout"] for one in Entries]
        assert len(Entries) <= 10
        assert len({one["Id"] for one in Entries}) == len(Entries)
        self.visible += [
            self.hidden.pop(one["ReceiptHandle"])
            for one in Entries
            if one["VisibilityTimeout"] == 0
        ]

    def ids(self):
        return sorted(int(one["MessageId"]) for one in [*self.visible, *self.hidden.values()])


class Way:
    """Delivers to a list; refuses the ids in ``refuses``; calls ``then`` after each delivery."""

    def __init__(self, *refuses, then=lambda: None):
        self.refuses, self.delivered, self.then = refuses, [], then

    def deliver(self, message):
        if message.event["id"] in self.refuses:
            raise NotRedeliveredError("not this one")
        self.delivered.append(message.event["id"])
        self.then()


def filled(queue, limit=1000):
    box = DeadLetterQueue(FakeAws(sqs=queue), "r", "url")
    box.fetch(limit)
    return box


def redrive(box, way, rate=None, turns=1000):
    return list(
        dead_letters.redrive(
            [(box, one) for one in box.messages.values()],
            way.deliver,
            TurningClock(turns),
            rate=rate,
        )
    )


def test_accepted_messages_are_deleted_and_rejected_ones_stay():
    queue = Queue(*map(message, range(25)))
    box, way = filled(queue), Way(3, 17)
    results = redrive(box, way)
    assert sorted(way.delivered) == [one for one in range(25) if one not in (3, 17)]
    assert {letter.handle: problem for letter, problem in results if problem} == {
        "h3": "not this one",
        "h17": "not this one",
    }
    assert queue.ids() == [3, 17]
    box.__exit__()
    assert len(queue.visible) == 2


def test_nothing_is_deleted_before_it_is_delivered():
    queue = Queue(message(1))
    held = []
    redrive(filled(queue), Way(then=lambda: held.append(queue.ids())))
    assert (held, queue.ids()) == ([[1]], [])


def test_messages_that_arrive_during_a_run_are_left_to_the_next():
    queue = Queue(message(0))
    way = Way(then=lambda: queue.visible.append(message(1)))
    redrive(filled(queue), way)
    assert (way.delivered, queue.ids()) == ([0], [1])


@pytest.mark.parametrize("error", [REFUSED, ResponseParserError("half an answer")])
def test_a_message_that_cannot_be_deleted_is_reported(error):
    queue = Queue(message(1))
    queue.fails = {"h1": error}
    ((_, problem),) = redrive(filled(queue), Way())
    assert problem.startswith("delivered, but not deleted")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no time"),
        TypeError("no text"),
        KeyError("no name"),
        RecursionError("too deep"),
        ResponseParserError("half an answer"),
        REFUSED,
    ],
)
def test_a_message_that_cannot_be_delivered_does_not_affect_the_others(error):
    queue, way = Queue(message(1), message(2)), Way()

    def deliver(message):
        if message.event["id"] == 1:
            raise error

    way.deliver = deliver
    assert [problem for _, problem in redrive(filled(queue), way)] == [str(error), ""]
    assert queue.ids() == [1]


def test_messages_stay_hidden_while_the_program_works(monkeypatch):
    monkeypatch.setattr(dead_letters, "EXTEND_SECONDS", 0.05)
    queue = Queue(*map(message, range(25)))
    with filled(queue):
        deadline = time.monotonic() + 10
        while len(queue.extended) < 50:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert set(queue.extended) == {dead_letters.VISIBILITY_TIMEOUT}
        queue.is_down = True
        time.sleep(0.2)
        queue.is_down, queue.extended = False, []
        while len(queue.extended) < 25:  # a failed attempt does not end it
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert len(queue.visible) == 25
    assert queue.extended[-25:] == [0] * 25
    time.sleep(0.2)
    assert queue.extended[-25:] == [0] * 25  # what is released is not hidden again
    assert dead_letters.VISIBILITY_TIMEOUT <= 120


def test_what_became_visible_to_others_is_left_to_them(monkeypatch):
    monkeypatch.setattr(dead_letters, "EXTEND_SECONDS", 0.01)
    queue, way = Queue(*map(message, range(3))), Way()
    with filled(queue) as box:
        assert box.hidden_until > time.time() + 60
        box.hidden_until = time.time()  # as after a sleep of the machine, or calls that fail
        time.sleep(0.2)
        assert [problem for _, problem in redrive(box, way)] == [
            "it became visible to others; run redrive again"
        ] * 3
        assert queue.extended == []
    assert (way.delivered, queue.ids()) == ([], [0, 1, 2])


def test_each_extension_counts_from_its_begin(monkeypatch):
    monkeypatch.setattr(dead_letters, "EXTEND_SECONDS", 0.01)
    queue, first = Queue(message(1)), time.time() + dead_letters.VISIBILITY_TIMEOUT
    with filled(queue) as box:
        before = box.hidden_until
        deadline = time.monotonic() + 10
        while box.hidden_until == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert before < box.hidden_until < first
        queue.is_down = True
        time.sleep(0.1)
        last = box.hidden_until
        time.sleep(0.1)
        assert box.hidden_until == last
        queue.is_down = False


def test_messages_in_flight_are_counted():
    queue = Queue(message(1), message(2))
    queue.receive_message(1)
    box = filled(queue)
    assert (len(box.messages), box.in_flight) == (1, 1)


def test_an_interrupted_run_leaves_the_rest_in_the_queue():
    queue = Queue(*map(message, range(5)))
    box, way = filled(queue), Way()
    with pytest.raises(Cancelled):
        redrive(box, way, rate=1, turns=2)
    box.__exit__()
    assert (way.delivered, [one["MessageId"] for one in queue.visible]) == ([0, 1], ["2", "3", "4"])


def test_the_rate_is_kept():
    clock = TurningClock(1000)
    queue = Queue(*map(message, range(5)))
    box = filled(queue)
    chosen = [(box, one) for one in box.messages.values()]
    list(dead_letters.redrive(chosen, Way().deliver, clock, rate=4))
    assert clock.now() == pytest.approx(1.0)


def test_no_more_messages_are_received_than_requested():
    queue = Queue(*map(message, range(25)))
    assert len(filled(queue, limit=12).messages) == 12
    assert len(queue.visible) == 13


def test_messages_are_grouped_by_rule_target_and_code_largest_first():
    messages = [
        dead_letters.parse(one)
        for one in (message(1), message(2, ERROR_CODE="NO_RESOURCE"), message(3))
    ]
    found = dead_letters.group(messages)
    assert {key: len(of) for key, of in found.items()} == {
        ("bus/all", "queue", "NO_PERMISSIONS"): 2,
        ("bus/all", "queue", "NO_RESOURCE"): 1,
    }
    assert next(iter(found))[2] == "NO_PERMISSIONS"


def test_a_record_of_a_function_is_read():
    record = {
        "version": "1.0",
        "requestContext": {
            "functionArn": "arn:aws:lambda:r:1:function:f:$LATEST",
            "condition": "RetriesExhausted",
        },
        "requestPayload": {"id": 9},
        "responsePayload": {"errorMessage": "boom"},
    }
    found = dead_letters.parse(message(1, record, RULE_ARN=""))
    assert (found.rule, found.target) == ("", "arn:aws:lambda:r:1:function:f:$LATEST")
    assert (found.code, found.message, found.event) == ("RetriesExhausted", "boom", {"id": 9})
    assert found.names() == ("(function)", "function:f:$LATEST", "RetriesExhausted")


@pytest.mark.parametrize(
    ("given", "code"), [("", "ENCRYPTED"), ("SDK_CLIENT_ERROR", "SDK_CLIENT_ERROR")]
)
def test_a_message_of_a_bus_names_the_bus(given, code):
    bus = "arn:aws:events:r:1:event-bus/orders"
    detail = {
        "event-bus-arn": bus,
        "kms-key-arn": "arn:aws:kms:r:1:key/k",
        "encrypted-payload": "AgR4",
    }
    event = {"source": "aws.events", "detail-type": "Encrypted Events", "detail": detail}
    found = dead_letters.parse(message(1, event, RULE_ARN="", TARGET_ARN="", ERROR_CODE=given))
    assert found.names() == ("(bus)", "event-bus/orders", code)
    assert (found.rule, found.target, found.event) == ("", bus, event)


@pytest.mark.parametrize("body", ["no JSON", '{"something": "else"}', "[]", 100_000 * "["])
def test_messages_without_dead_letter_attributes_are_shown_as_such(body):
    found = dead_letters.parse({"MessageId": "1", "ReceiptHandle": "h", "Body": body})
    assert (found.code, found.event, found.message) == ("NOT_A_DEAD_LETTER", None, body[:200])
