"""Messages of dead-letter queues: events that rules did not deliver, and that functions gave up on."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any, Self

from eventstacks.aws import AWS_ERRORS
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from eventstacks.aws import Aws, Clock

# Seconds that a message is hidden from others; renewed each EXTEND_SECONDS while this program works
# with it. So the messages of a run that was killed are visible again after VISIBILITY_TIMEOUT.
VISIBILITY_TIMEOUT, EXTEND_SECONDS = 120, 40.0
# A message is not delivered so shortly before it becomes visible to others.
SAFETY_MARGIN = 10.0
PARALLEL = 8  # calls at a time
NOT_A_DEAD_LETTER = "NOT_A_DEAD_LETTER"


@dataclass(frozen=True)
class Message:
    """A message of a dead-letter queue.

    ``rule``: ARN, "" if a function or a bus sent it. ``target``: ARN. ``event``: None if the body
    is not that of a dead-letter message.
    """

    id: str
    handle: str
    rule: str
    target: str
    code: str
    message: str
    event: Any

    def names(self) -> tuple[str, str, str]:
        """Return short names of the rule, target and error code, by which messages are grouped."""
        sender = "(bus)" if ":event-bus/" in self.target else "(function)"
        return self.rule.partition("rule/")[2] or sender, self.target.split(":", 5)[-1], self.code


class DeadLetterQueue:
    """The messages of a queue, hidden from others while the context lasts.

    ``messages``: by receipt handle. ``in_flight``: messages that another reader, or a run that was
    killed, hides. ``hidden_until``: on the monotonic clock.
    """

    def __init__(self, aws: Aws, region: str, url: str) -> None:
        self.aws, self.region, self.url = aws, region, url
        self.messages: dict[str, Message] = {}
        self.in_flight = 0
        self.hidden_until = 0.0
        self._sqs = aws.client("sqs", region)
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep_hidden, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.change_visibility(0)
        self.messages = {}

    def fetch(self, limit: int) -> None:
        """Receive and hide up to ``limit`` messages that are visible now."""
        _, self.in_flight = self.count()
        self.hidden_until = time.monotonic() + VISIBILITY_TIMEOUT - SAFETY_MARGIN
        while len(self.messages) < limit:
            answer = self._sqs.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(10, limit - len(self.messages)),
                VisibilityTimeout=VISIBILITY_TIMEOUT,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
            )
            # A long poll asks all servers: an empty answer means that there are no more (SQS guide).
            if not (received := answer.get("Messages")):
                return
            self.messages |= {one["ReceiptHandle"]: parse(one) for one in received}

    def count(self) -> tuple[int, int]:
        """Return about how many messages are visible, and how many are in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        visible, in_flight = (int(answer["Attributes"].get(name, 0)) for name in names)
        return visible, in_flight

    def delete(self, message: Message) -> None:
        """Delete a message. Threads can share this."""
        self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message.handle)
        del self.messages[message.handle]

    def change_visibility(self, seconds: int) -> None:
        """Hide the messages for ``seconds`` from now on. Raises botocore's errors."""
        handles, begun = list(self.messages), time.monotonic()

        def change(start: int) -> None:
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                for number, handle in enumerate(handles[start : start + 10])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)

        with ThreadPool(PARALLEL) as pool:
            pool.map(change, range(0, len(handles), 10))
        self.hidden_until = begun + seconds - SAFETY_MARGIN

    def _keep_hidden(self) -> None:
        while not self._ended.wait(EXTEND_SECONDS):
            try:
                self.change_visibility(VISIBILITY_TIMEOUT)
            except AWS_ERRORS:  # ``hidden_until`` stays; the next attempt follows soon
                continue


def parse(message: dict[str, Any]) -> Message:
    """Return an SQS message as a rule, a bus or a function sends it.

    Sources: EventBridge User Guide, 'Using dead-letter queues' and 'Decrypting events in dead-letter
    queues'; Lambda Developer Guide, 'Retaining records of invocations'.
    """
    attributes = {
        key: one.get("StringValue", "") for key, one in message.get("MessageAttributes", {}).items()
    }
    try:
        body = json.loads(message["Body"])
    except (ValueError, RecursionError):
        body = None
    rule = attributes.get("RULE_ARN", "")
    target = attributes.get("TARGET_ARN", "")
    code, text = attributes.get("ERROR_CODE", ""), attributes.get("ERROR_MESSAGE", "")
    if rule:
        pass
    elif is_encrypted(body):
        target, code = str(body["detail"].get("event-bus-arn", "")), code or "ENCRYPTED"
    elif isinstance(body, dict) and "requestPayload" in body and "requestContext" in body:
        context, response = body["requestContext"], body.get("responsePayload")
        target, code = context.get("functionArn", ""), context.get("condition", "")
        text = str(response.get("errorMessage", "")) if isinstance(response, dict) else ""
        body = body["requestPayload"]
    else:
        target, code, text, body = "", NOT_A_DEAD_LETTER, message["Body"][:200], None
    return Message(message["MessageId"], message["ReceiptHandle"], rule, target, code, text, body)


def is_encrypted(event: Any) -> bool:
    """Return True for an event that EventBridge stored encrypted: it could not use the bus's key."""
    return (
        isinstance(event, dict)
        and event.get("source") == "aws.events"
        and event.get("detail-type") == "Encrypted Events"
        and isinstance(event.get("detail"), dict)
    )


def group(messages: Iterable[Message]) -> dict[tuple[str, str, str], list[Message]]:
    """Return messages by rule, target and error code, the largest group first."""
    groups: dict[tuple[str, str, str], list[Message]] = {}
    for message in messages:
        groups.setdefault(message.names(), []).append(message)
    return dict(sorted(groups.items(), key=lambda pair: -len(pair[1])))


def redrive(
    queue: DeadLetterQueue,
    messages: Sequence[Message],
    deliver: Callable[[Message], None],
    clock: Clock,
    *,
    rate: float | None = None,
) -> Iterator[tuple[Message, str]]:
    """Deliver messages, at most ``rate`` a second; yield each with "" or why it stays in the queue.

    A message is deleted after its delivery was acknowledged. ``deliver`` raises ToolError or
    botocore's errors.
    """

    def send(message: Message) -> tuple[Message, str]:
        if time.monotonic() > queue.hidden_until:  # others can see it, and deliver it too
            return message, "it became visible to others meanwhile; run redrive again"
        try:
            deliver(message)
        # Anyone who may send to the queue can send what is no event of EventBridge.
        except (ToolError, ValueError, TypeError, RecursionError, *AWS_ERRORS) as error:
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
