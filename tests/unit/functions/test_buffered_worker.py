"""The function of buffered-worker: each good event is processed once.

And each poison one ends in the dead-letter queue.
"""

import importlib.util
import json
import logging
import random
import threading
from collections import Counter
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

FILE = Path(__file__).parents[3] / "templates" / "functions" / "buffered_worker.py"
VISIBILITY, RECEIVES, TIMEOUT = 240, 5, 30  # of the template
DAY = 86400


def throttled():
    error = {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": ""}}
    return ClientError(error, "Call")


class ConditionalError(ClientError):
    pass


class Killed(BaseException):
    """The function is stopped: out of memory, out of time."""


class Table:
    """DynamoDB with the operations that the function calls.

    ``fails(operation)`` says whether a call is refused.
    """

    def __init__(self, clock):
        self.items, self.clock, self.lock = {}, clock, threading.Lock()
        self.exceptions = SimpleNamespace(ConditionalCheckFailedException=ConditionalError)
        self.fails = lambda _operation: False

    def _enter(self, operation):
        if self.fails(operation):
            raise throttled()

    def put_item(self, *, Item, ConditionExpression, ExpressionAttributeValues, **_):  # noqa: N803
        self._enter("put_item")
        assert ConditionExpression == (
            "attribute_not_exists(EventKey) OR (#status = :reserved AND ReservedUntil < :now)"
        )
        now = int(ExpressionAttributeValues[":now"]["N"])
        with self.lock:
            found = self.items.get(Item["EventKey"]["S"])
            is_over = found and found["Status"]["S"] == "RESERVED"
            if found and not (is_over and int(found["ReservedUntil"]["N"]) < now):
                raise ConditionalError({"Error": {"Code": "ConditionalCheckFailed"}}, "PutItem")
            self.items[Item["EventKey"]["S"]] = Item

    def get_item(self, *, Key, ConsistentRead, **_):  # noqa: N803
        self._enter("get_item")
        assert ConsistentRead
        found = self.items.get(Key["EventKey"]["S"])
        return {"Item": found} if found else {}

    def update_item(self, *, Key, ExpressionAttributeValues, **_):  # noqa: N803
        self._enter("update_item")
        with self.lock:
            item = self.items.setdefault(Key["EventKey"]["S"], {})
            item["Status"] = ExpressionAttributeValues[":processed"]

    def delete_item(self, *, Key, **_):  # noqa: N803
        self._enter("delete_item")
        self.items.pop(Key["EventKey"]["S"], None)


class Clock:
    now = 1_800_000_000.0

    def time(self):
        return self.now


@pytest.fixture
def worker(monkeypatch):
    """The function, with a table and a clock of the test.

    ``done``: the IDs of the events that it processed.
    """
    spec = importlib.util.spec_from_file_location("buffered_worker", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clock, done = Clock(), []
    table = Table(clock)
    monkeypatch.setattr(module, "boto3", SimpleNamespace(client=lambda _service: table))
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "LOGGER", logging.getLogger("silent"))
    monkeypatch.setattr(logging.getLogger("silent"), "disabled", True)
    for name, value in (("TABLE_NAME", "t"), ("KEY_PATH", "id"), ("REMEMBER_DAYS", "30")):
        monkeypatch.setenv(name, value)

    def process(event):
        if event["detail"].get("poison"):
            raise RuntimeError("poison")
        done.append(event["id"])

    monkeypatch.setattr(module, "process", process)
    return SimpleNamespace(module=module, table=table, clock=clock, done=done)


def event(number, **detail):
    return {"id": f"e{number}", "source": "shop", "detail-type": "OrderPlaced", "detail": detail}


def message(number, body):
    text = body if isinstance(body, str) else json.dumps(body)
    return {"messageId": f"m{number}", "body": text, "receives": 0}


def context(milliseconds=TIMEOUT * 1000):
    return SimpleNamespace(get_remaining_time_in_millis=lambda: milliseconds)


def deliver(worker, messages, randomness, threads=8):
    """What SQS and Lambda do: deliver in batches until no message is left in the queue.

    Each was deleted or is in the dead-letter queue.
    """
    waiting, dead = list(messages), []

    def invoke(batch):
        try:
            answer = worker.module.handler({"Records": batch}, context())
        except Killed:
            return {
                one["messageId"] for one in batch
            }  # an invocation without an answer fails as a whole
        return {one["itemIdentifier"] for one in answer["batchItemFailures"]}

    with ThreadPool(threads) as pool:
        while waiting:
            randomness.shuffle(waiting)
            batches = [waiting[n : n + 10] for n in range(0, len(waiting), 10)]
            failed = set().union(*pool.map(invoke, batches, chunksize=1))
            waiting = [one for one in waiting if one["messageId"] in failed]
            for one in waiting:
                one["receives"] += 1
            dead += [one for one in waiting if one["receives"] >= RECEIVES]
            waiting = [one for one in waiting if one["receives"] < RECEIVES]
            worker.clock.now += VISIBILITY
    return dead


def mixture(count, randomness):
    """(messages, good IDs, poison message IDs): 5 % poison of three kinds, 5 % delivered twice."""
    kinds = [lambda n: event(n, poison=True), lambda n: f"{{not JSON {n}", lambda _n: {"id": None}]
    poison = set(randomness.sample(range(count), count // 20))
    bodies = {n: randomness.choice(kinds)(n) if n in poison else event(n) for n in range(count)}
    good = sorted(set(bodies) - poison)
    twice = randomness.sample(good, count // 20)
    messages = [message(n, body) for n, body in bodies.items()]
    messages += [message(f"{n}-again", bodies[n]) for n in twice]
    return messages, {f"e{n}" for n in good}, {f"m{n}" for n in poison}


def test_of_10_000_events_each_good_one_is_processed_once_and_each_poison_one_is_kept(
    worker, unmeasured, capsys
):
    randomness = random.Random(1)
    messages, good, poison = mixture(10_000, randomness)
    assert (len(messages), len(good), len(poison)) == (10_500, 9_500, 500)
    dead = deliver(worker, messages, randomness)
    assert Counter(worker.done) == dict.fromkeys(good, 1)
    assert {one["messageId"] for one in dead} == poison
    with capsys.disabled():
        print(f"\n{len(worker.done):,} processed once, {len(dead)} in the dead-letter queue")


@pytest.mark.parametrize("seed", range(5))
def test_throttling_of_the_table_and_stopped_functions_lose_and_repeat_nothing(worker, seed):
    randomness = random.Random(seed)
    process, stopped = worker.module.process, set()

    def stops_once(given):
        if given["id"].endswith("7") and given["id"] not in stopped:
            stopped.add(given["id"])
            raise Killed
        process(given)

    worker.module.process = stops_once
    # Not update_item: an event whose record is missing is processed again if it comes again
    # (see below).
    worker.table.fails = lambda operation: operation != "update_item" and randomness.random() < 0.02
    messages, good, poison = mixture(400, randomness)
    dead = deliver(worker, messages, randomness, threads=4)
    # A good event whose five attempts all met a fault is kept in the queue, unprocessed.
    kept = {json.loads(one["body"])["id"] for one in dead if one["messageId"] not in poison}
    assert Counter(worker.done) == dict.fromkeys(worker.done, 1)
    assert good == set(worker.done) | kept
    assert len(worker.done) > 0.95 * len(good)
    assert poison <= {one["messageId"] for one in dead}
    assert len(stopped) > 20


def test_an_event_that_another_invocation_is_processing_is_delivered_again(worker):
    assert worker.module.reserve(worker.table, "t", "shop/OrderPlaced/e1", 31, 30)
    first = message(1, event(1))
    answer = worker.module.handler({"Records": [first, message(2, event(2))]}, context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    worker.clock.now += VISIBILITY  # the other invocation was stopped and did not finish
    assert worker.module.handler({"Records": [first]}, context()) == {"batchItemFailures": []}
    assert worker.done == ["e2", "e1"]


def test_a_failed_event_can_be_tried_again_at_once(worker):
    batch = {"Records": [message(1, event(1, poison=True))]}
    assert worker.module.handler(batch, context())["batchItemFailures"]
    assert worker.table.items == {}


def test_an_event_that_was_processed_but_not_recorded_does_not_fail(worker):
    worker.table.fails = lambda operation: operation == "update_item"
    batch = {"Records": [message(1, event(1))]}
    assert worker.module.handler(batch, context()) == {"batchItemFailures": []}
    assert worker.module.handler(batch, context())["batchItemFailures"]  # still reserved
    worker.clock.now += VISIBILITY
    worker.module.handler(batch, context())
    assert worker.done == ["e1", "e1"]


def test_no_event_is_started_when_too_little_time_is_left(worker):
    batch = {"Records": [message(1, event(1)), message(2, event(2))]}
    answer = worker.module.handler(batch, context(4_999))
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["m1", "m2"]
    assert worker.done == []
    assert worker.table.items == {}


def test_keys_are_remembered_for_some_days_and_reserved_for_the_rest_of_the_invocation(worker):
    worker.module.handler({"Records": [message(1, event(1))]}, context(10_500))
    (item,) = worker.table.items.values()
    assert int(item["ReservedUntil"]["N"]) - worker.clock.now == 12
    assert int(item["ExpiresAt"]["N"]) - worker.clock.now == 30 * DAY


@pytest.mark.parametrize(
    ("path", "given", "key"),
    [
        ("id", event(1), "shop/OrderPlaced/e1"),
        ("detail.order", event(1, order=17), "shop/OrderPlaced/17"),
        ("detail.order.id", event(1, order={"id": "a/b"}), "shop/OrderPlaced/a/b"),
    ],
)
def test_the_key_is_the_value_at_a_path(worker, path, given, key):
    assert worker.module.key_of(given, path) == key


@pytest.mark.parametrize("value", [None, "", True, 1.5, ["x"], {"id": 1}])
def test_an_event_without_a_key_fails(worker, value):
    with pytest.raises(ValueError, match=r"detail\.order"):
        worker.module.key_of(event(1, order=value), "detail.order")
    with pytest.raises(ValueError, match=r"detail\.order\.id"):
        worker.module.key_of(event(1, order="text"), "detail.order.id")


def test_one_business_key_in_two_detail_types_is_two_events(worker, monkeypatch):
    monkeypatch.setenv("KEY_PATH", "detail.order")
    placed, paid = event(1, order=17), {**event(2, order=17), "detail-type": "OrderPaid"}
    again = event(3, order=17)  # published twice: another ID, the same order
    batch = {"Records": [message(n, one) for n, one in enumerate((placed, paid, again))]}
    assert worker.module.handler(batch, context()) == {"batchItemFailures": []}
    assert worker.done == ["e1", "e2"]
