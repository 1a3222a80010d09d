"""Dead-letter queue messages: events that rules did not deliver, or that functions gave up on.

A message is shown, and its event is delivered again: to its target, as its rule would, or to its
bus.
"""

import contextlib
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from multiprocessing.pool import ThreadPool
from typing import Any, Self

from eventstacks.aws import AWS_ERRORS, Aws, Clock, suppress_aws_error
from eventstacks.bus.stacks import describe_bus
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import graph, payload
from eventstacks.flow.symbols import as_dict
from eventstacks.flow.targets import Target, bare, service_of

# Seconds that a message is hidden from others; renewed each EXTEND_SECONDS while this program works
# with it. So the messages of a run that was killed are visible again after VISIBILITY_TIMEOUT.
VISIBILITY_TIMEOUT, EXTEND_SECONDS = 120, 40.0
# A message is not delivered so shortly before it becomes visible to others, or later: when this
# machine slept, or the queue did not answer, another run may deliver it.
SAFETY_MARGIN = 10.0
PARALLEL = 8  # calls at a time
_ENVELOPE = {"source", "detail-type", "detail", "time"}
STREAM = "redriven"  # the log stream of redelivered events
TO_BUS = "Send it to the bus: --to bus."
# Anyone who may send to the queue can send other things than events of EventBridge.
UNUSABLE = (ValueError, TypeError, LookupError, RecursionError)
FOREIGN = "not a dead-letter message of EventBridge or Lambda"
ENCRYPTED = (
    "EventBridge stored this event encrypted, because it could not use the bus's key. Decrypt its "
    "detail.encrypted-payload with that key, and send the result. How: EventBridge User Guide, "
    "'Decrypting events in dead-letter queues'"
)


@dataclass(frozen=True)
class Message:
    """A message of a dead-letter queue.

    ``rule``: ARN of a rule or a schedule, "" if a function or a bus sent it. ``target``: ARN.
    ``problem``: why its event cannot be delivered again, "" if it can.
    """

    handle: str
    rule: str
    target: str
    code: str
    message: str
    event: Any
    problem: str = ""

    def names(self) -> tuple[str, str, str]:
        """Return short names of the rule, target and error code, by which messages are grouped."""
        sender = "(bus)" if ":event-bus/" in self.target else "(function)"
        name = re.sub(".*:(rule|schedule)/", "", self.rule) or sender
        return name, self.target.split(":", 5)[-1], self.code


class DeadLetterQueue:
    """The messages of a queue, hidden from others while the context lasts.

    ``messages``: by receipt handle. ``in_flight``: messages that another reader, or a run that was
    killed, hides. ``hidden_until``: epoch seconds, less a margin.
    """

    def __init__(self, aws: Aws, region: str, url: str) -> None:
        self.url = url
        self.messages: dict[str, Message] = {}
        self.in_flight, self.hidden_until = 0, math.inf
        self._sqs = aws.client("sqs", region)
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep_hidden, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.change_visibility(0)

    def fetch(self, limit: int) -> None:
        """Receive and hide up to ``limit`` messages that are visible now."""
        _, self.in_flight = self.count()
        self.hidden_until = time.time() + VISIBILITY_TIMEOUT - SAFETY_MARGIN
        while len(self.messages) < limit:
            answer = self._sqs.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(10, limit - len(self.messages)),
                VisibilityTimeout=VISIBILITY_TIMEOUT,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
            )
            # A long poll asks all servers: an empty answer means that there are no more (SQS
            # guide).
            if not (received := answer.get("Messages")):
                return
            self.messages |= {one["ReceiptHandle"]: parse(one) for one in received}

    def count(self) -> tuple[int, int]:
        """Return about how many messages are visible, and how many are in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return int(answer["Attributes"][names[0]]), int(answer["Attributes"][names[1]])

    def delete(self, message: Message) -> None:
        """Delete a message. Threads can share this."""
        self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message.handle)
        del self.messages[message.handle]

    def change_visibility(self, seconds: int) -> None:
        """Hide the messages for ``seconds`` from now on. Raises botocore's errors."""
        handles, begun = list(self.messages), time.time()

        def change(start: int) -> None:
            self._sqs.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                    for number, handle in enumerate(handles[start : start + 10])
                ],
            )

        with ThreadPool(PARALLEL) as pool:
            pool.map(change, range(0, len(handles), 10))
        self.hidden_until = begun + seconds - SAFETY_MARGIN

    def _keep_hidden(self) -> None:
        # What became visible is not hidden again: another run may have it.
        while not self._ended.wait(EXTEND_SECONDS) and time.time() < self.hidden_until:
            with contextlib.suppress(*AWS_ERRORS):  # the next attempt follows soon
                self.change_visibility(VISIBILITY_TIMEOUT)


def parse(message: dict[str, Any]) -> Message:
    """Return an SQS message as a rule, a schedule, a bus or a function sends it.

    Sources: EventBridge User Guide, 'Using dead-letter queues' and 'Decrypting events in
    dead-letter queues'; Lambda Developer Guide, 'Retaining records of invocations'; EventBridge
    Scheduler User Guide, 'Configuring a dead-letter queue'.
    """
    attributes = {
        key: one.get("StringValue", "") for key, one in message.get("MessageAttributes", {}).items()
    }
    target, code, text = (
        attributes.get(name, "") for name in ("TARGET_ARN", "ERROR_CODE", "ERROR_MESSAGE")
    )
    rule = attributes.get("RULE_ARN") or attributes.get("SCHEDULE_ARN", "")
    event: Any = None
    problem = ""
    with contextlib.suppress(ValueError, RecursionError):
        event = json.loads(message["Body"])
    match event:
        case {"detail-type": "Encrypted Events", "detail": {"event-bus-arn": str(bus)}}:
            target, code, problem = target or bus, code or "ENCRYPTED", ENCRYPTED
        case dict() if rule and (":schedule/" in rule or event.keys() >= _ENVELOPE):
            pass
        case {"requestPayload": sent, "requestContext": {"functionArn": str(arn)}} if not rule:
            target = arn
            code = event["requestContext"].get("condition", "")
            text = str(as_dict(event.get("responsePayload")).get("errorMessage", ""))
            event = sent
        case _:
            code, problem = "NOT_A_DEAD_LETTER", FOREIGN
            text, event = message["Body"][:200], None
    return Message(message["ReceiptHandle"], rule, target, code, text, event, problem)


def group(messages: Iterable[Message]) -> dict[tuple[str, str, str], list[Message]]:
    """Return messages by rule, target and error code, the largest group first."""
    groups: dict[tuple[str, str, str], list[Message]] = {}
    for message in messages:
        groups.setdefault(message.names(), []).append(message)
    return dict(sorted(groups.items(), key=lambda pair: -len(pair[1])))


def redrive(
    messages: Sequence[tuple[DeadLetterQueue, Message]],
    deliver: Callable[[Message], None],
    clock: Clock,
    *,
    rate: float | None = None,
) -> Iterator[tuple[Message, str]]:
    """Deliver messages, at most ``rate`` a second; yield each with "" or why it stays in the queue.

    A message is deleted after its delivery was acknowledged. ``deliver`` raises ToolError or
    botocore's errors.
    """

    def send(pair: tuple[DeadLetterQueue, Message]) -> tuple[Message, str]:
        queue, message = pair
        if time.time() > queue.hidden_until:
            return message, "it became visible to others; run redrive again"
        try:
            deliver(message)
        except (ToolError, *UNUSABLE, *AWS_ERRORS) as error:
            return message, str(error)
        try:
            queue.delete(message)
        except AWS_ERRORS as error:
            return message, f"delivered, but not deleted from the queue: {error}"
        return message, ""

    parallel = 1 if rate else PARALLEL
    with ThreadPoolExecutor(parallel) as pool:
        for start in range(0, len(messages), parallel):
            begun = clock.now()
            yield from pool.map(send, messages[start : start + parallel])
            if rate and start + 1 < len(messages):
                clock.sleep(max(0.0, 1 / rate - (clock.now() - begun)))


class NotRedeliveredError(ToolError):
    """An event that was not accepted; its message stays in the dead-letter queue."""

    default_code = ErrorCode.EVENT_REJECTED


class Redelivery:
    """Deliver events to their target, or with ``to_bus`` to their bus.

    Neither way is enough: only AWS may put its own events on a bus, and not every target (an API
    destination, a bus of another account) can be called as its rule would.
    """

    def __init__(self, aws: Aws, *, to_bus: bool) -> None:
        self._aws, self._to_bus = aws, to_bus

    def deliver(self, message: Message) -> None:
        """Return when AWS has accepted the event.

        Raises NotRedeliveredError or botocore's errors.
        """
        if message.problem:
            raise NotRedeliveredError(message.problem)
        rule, target, event = message.rule, message.target, message.event
        is_run = ":schedule/" in rule
        if is_run and ":event-bus/" in target:
            self._put(target, self._event_of_run(rule, event))
        elif self._to_bus and not is_run:
            if not rule or str(event["source"]).startswith("aws."):
                raise NotRedeliveredError(
                    f"only AWS may send events of the source {event['source']}"
                    if rule
                    else "a function's record does not name a bus",
                    advice="Send it to the target: --to target.",
                )
            self._put(_bus_of(rule), event)
        elif rule and not is_run:
            self._send(*self._input(rule, bare(target), event))
        else:
            self._send(Target("", target), payload.compact(event))

    def _input(self, rule: str, arn: str, event: dict[str, Any]) -> tuple[Target, str]:
        """Return the target, and what its rule would give it now."""
        targets = [one for one in self._read_targets(rule) if one.arn == arn]
        if len(targets) != 1:
            raise NotRedeliveredError(
                f"the rule has {len(targets) or 'no'} target{'s' * bool(targets)} {arn}",
                where=rule,
                advice=TO_BUS if targets else f"Add the target again, or: {TO_BUS}",
            )
        # The message does not say when EventBridge received the event: not before the event's time.
        name = rule.rsplit("/", 1)[-1]
        source = graph.Rule(name, name, rule, _bus_of(rule), None)
        built = payload.build(source, targets[0], event, event.get("time"))
        if built.refusal:
            raise NotRedeliveredError(built.refusal.reason, where=arn, advice=TO_BUS)
        return targets[0], built.text

    def _event_of_run(self, schedule: str, detail: dict[str, Any]) -> dict[str, Any]:
        """Return the event of a run; the schedule has its source and its detail type."""
        _, group, name = schedule.rsplit("/", 2)
        found = self._client("scheduler", schedule).get_schedule(Name=name, GroupName=group)
        given = found["Target"]["EventBridgeParameters"]
        return {
            "source": given["Source"],
            "detail-type": given["DetailType"],
            "time": datetime.now(UTC).isoformat(),
            "detail": detail,
        }

    def _put(self, bus: str, event: dict[str, Any]) -> None:
        client = self._client("events", bus)
        describe_bus(client, graph.bus_name(bus))
        entry = {
            "EventBusName": graph.bus_name(bus),
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": payload.compact(event["detail"]),
            "Resources": event.get("resources", []),
            "Time": datetime.fromisoformat(event["time"]),
        }
        answer = client.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise NotRedeliveredError("{ErrorCode}: {ErrorMessage}".format(**answer["Entries"][0]))

    def _send(self, target: Target, text: str) -> None:
        arn = target.arn
        match service_of(target.arn):
            case "lambda":
                self._client("lambda", arn).invoke(
                    FunctionName=arn, InvocationType="Event", Payload=text.encode()
                )
            case "sns":
                self._client("sns", arn).publish(TopicArn=arn, Message=text)
            case "states":
                self._client("stepfunctions", arn).start_execution(stateMachineArn=arn, input=text)
            case "sqs":
                account, name = arn.split(":")[4:]
                sqs = self._client("sqs", arn)
                url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
                sqs.send_message(
                    QueueUrl=url,
                    MessageBody=text,
                    **(target.settings.get("SqsParameters") or {}),  # the MessageGroupId
                )
            case "logs":
                self._log(target, text)
            case service:
                raise NotRedeliveredError(f"cannot deliver to {service}", where=arn, advice=TO_BUS)

    def _log(self, target: Target, text: str) -> None:
        event = {"timestamp": int(time.time() * 1000), "message": text}
        if "InputTransformer" in target.settings:
            # It makes the log event itself (EventBridge User Guide, targets); boto3 refuses one
            # without timestamp and message.
            event = json.loads(text)
        group = target.arn.partition(":log-group:")[2]
        self._create_stream(target.arn, group)
        answer = self._client("logs", target.arn).put_log_events(
            logGroupName=group, logStreamName=STREAM, logEvents=[event]
        )
        if rejected := answer.get("rejectedLogEventsInfo"):
            raise NotRedeliveredError(
                f"the log group rejects the timestamp: {rejected}", where=target.arn
            )

    def _client(self, service: str, arn: str) -> Any:
        return self._aws.client(service, arn.split(":")[3])

    @cache  # noqa: B019 - lives as long as its run
    def _create_stream(self, arn: str, group: str) -> None:
        with suppress_aws_error("ResourceAlreadyExistsException"):
            self._client("logs", arn).create_log_stream(logGroupName=group, logStreamName=STREAM)

    @cache  # noqa: B019
    def _read_targets(self, rule: str) -> list[Target]:
        answer = self._client("events", rule).list_targets_by_rule(
            Rule=rule.rsplit("/", 1)[-1], EventBusName=graph.bus_name(_bus_of(rule))
        )
        return [Target(one["Id"], bare(one["Arn"]), one) for one in answer["Targets"]]


def _bus_of(rule: str) -> str:
    """Return the ARN of a rule's bus: …:rule/<bus>/<name>, on the default bus …:rule/<name>."""
    start, _, path = rule.partition(":rule/")
    return f"{start}:event-bus/{path.rpartition('/')[0] or 'default'}"
