"""What was not delivered: dead letters of rules, and what functions gave up on."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eventstacks.aws import AWS_ERRORS
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from eventstacks.aws import Aws, Clock
    from eventstacks.bus.redelivery import Redelivery

_LONGEST = 43_200  # seconds: the longest time a message can be hidden (SQS API)


@dataclass(frozen=True)
class Letter:
    """One dead letter. ``rule`` is the ARN of the rule, "" for what a function itself gave up on, or a bus."""

    id: str
    handle: str
    rule: str
    target: str  # ARN
    code: str
    message: str
    event: Any  # None: the body is not a dead letter

    def names(self) -> tuple[str, str, str]:
        """Rule, target and error code, short, as people group them."""
        sender = "(bus)" if ":event-bus/" in self.target else "(function)"
        return self.rule.partition("rule/")[2] or sender, self.target.split(":", 5)[-1], self.code


@dataclass
class Mailbox:
    """The letters of a queue, hidden from everybody else until they are removed or released."""

    aws: Aws
    region: str
    url: str
    letters: dict[str, Letter] = field(default_factory=dict)  # by their handles
    expires: float = 0.0  # on the monotonic clock: when they come into sight by themselves

    def fetch(self, limit: int, seconds: float) -> None:
        """Takes up to ``limit`` letters that are there now out of sight for ``seconds``; none that come later."""
        seconds = min(_LONGEST, int(seconds))
        self.expires = time.monotonic() + seconds - 10
        sqs = self.aws.client("sqs", self.region)
        while len(self.letters) < limit:
            answer = sqs.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(10, limit - len(self.letters)),
                VisibilityTimeout=seconds,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
            )
            if not answer.get(
                "Messages"
            ):  # a long poll asks all servers: there are no more (SQS guide)
                return
            self.letters |= {one["ReceiptHandle"]: parse(one) for one in answer["Messages"]}

    def remaining(self) -> int:
        """About how many more letters the queue shows to everybody."""
        names = ["ApproximateNumberOfMessages"]
        answer = self.aws.client("sqs", self.region).get_queue_attributes(
            QueueUrl=self.url, AttributeNames=names
        )
        return int(answer["Attributes"][names[0]])

    def remove(self, letter: Letter) -> None:
        """Deletes a letter, and lets go of it."""
        self.aws.client("sqs", self.region).delete_message(
            QueueUrl=self.url, ReceiptHandle=letter.handle
        )
        del self.letters[letter.handle]  # by several threads

    def release(self) -> None:
        """Lets everybody see again the letters that are left."""
        sqs, handles = self.aws.client("sqs", self.region), list(self.letters)
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(index), "ReceiptHandle": one, "VisibilityTimeout": 0}
                for index, one in enumerate(handles[start : start + 10])
            ]
            sqs.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
        self.letters = {}


def parse(message: dict[str, Any]) -> Letter:
    """A message of SQS as a letter: of a rule (attributes say why), of a bus, or a function's record of a failure.

    Sources: EventBridge guide, 'Using dead-letter queues' and 'Decrypting events in dead-letter queues'; Lambda guide,
    'Retaining records of invocations'.
    """
    why = {
        key: one.get("StringValue", "") for key, one in message.get("MessageAttributes", {}).items()
    }
    try:
        body = json.loads(message["Body"])
    except (ValueError, RecursionError):
        body = None
    place = (message["MessageId"], message["ReceiptHandle"])
    if "RULE_ARN" in why:
        return Letter(
            *place,
            why["RULE_ARN"],
            why.get("TARGET_ARN", ""),
            why.get("ERROR_CODE", ""),
            why.get("ERROR_MESSAGE", ""),
            body,
        )
    if is_encrypted(body):  # a bus has no rule to name
        bus = str(body["detail"].get("event-bus-arn", ""))
        return Letter(
            *place,
            "",
            bus,
            why.get("ERROR_CODE") or "ENCRYPTED",
            why.get("ERROR_MESSAGE", ""),
            body,
        )
    if isinstance(body, dict) and "requestPayload" in body and "requestContext" in body:
        context, answer = body["requestContext"], body.get("responsePayload")
        said = answer.get("errorMessage", "") if isinstance(answer, dict) else ""
        return Letter(
            *place,
            "",
            context.get("functionArn", ""),
            context.get("condition", ""),
            str(said),
            body["requestPayload"],
        )
    return Letter(*place, "", "", "NOT_A_DEAD_LETTER", message["Body"][:200], None)


def is_encrypted(event: Any) -> bool:
    """Whether EventBridge could not use the key of a bus, and wrote down an event of it as it lay there, encrypted."""
    return (
        isinstance(event, dict)
        and event.get("source") == "aws.events"
        and event.get("detail-type") == "Encrypted Events"
        and isinstance(event.get("detail"), dict)
    )


def group(letters: Iterable[Letter]) -> dict[tuple[str, str, str], list[Letter]]:
    """Letters by rule, target and error code, the largest group first."""
    found: dict[tuple[str, str, str], list[Letter]] = {}
    for one in letters:
        found.setdefault(one.names(), []).append(one)
    return dict(sorted(found.items(), key=lambda pair: -len(pair[1])))


def redrive(
    mailbox: Mailbox,
    letters: Sequence[Letter],
    way: Redelivery,
    clock: Clock,
    *,
    rate: float | None = None,
) -> Iterator[tuple[Letter, str]]:
    """Sends letters again, ``rate`` a second at the most; gives each with "" or why it stays in the queue.

    A letter is deleted once its redelivery is acknowledged, and not before.
    """

    def send(letter: Letter) -> tuple[Letter, str]:
        if time.monotonic() > mailbox.expires:  # somebody else may see it by now, and send it too
            return letter, "not reached in time; the next run takes it"
        try:  # anybody may put a message into a queue: it may hold what no event of EventBridge does
            way.deliver(letter.rule, letter.target, letter.event)
        except (ToolError, ValueError, TypeError, RecursionError, *AWS_ERRORS) as error:
            return letter, str(error)
        try:
            mailbox.remove(letter)
        except AWS_ERRORS as error:
            return letter, f"delivered, but still in the queue: {error}"
        return letter, ""

    at_a_time = 1 if rate else 8
    with ThreadPoolExecutor(at_a_time) as pool:
        for start in range(0, len(letters), at_a_time):
            begun = clock.now()
            yield from pool.map(send, letters[start : start + at_a_time])
            if rate and start + 1 < len(letters):
                clock.sleep(max(0.0, 1 / rate - (clock.now() - begun)))
