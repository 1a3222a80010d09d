"""One event delivered again: to the target that did not take it, as its rule would have, or to the bus."""

from __future__ import annotations

import json
import time
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from eventstacks.bus import buses
from eventstacks.bus.codes import EXISTS, GONE, Ignoring
from eventstacks.bus.dead_letters import is_encrypted
from eventstacks.errors import ToolError
from eventstacks.flow import graph, payload

if TYPE_CHECKING:
    from eventstacks.aws import Aws

_ENVELOPE = {"source", "detail-type", "detail", "time"}
STREAM = "redriven"  # of log groups that get their events again


class NotRedeliveredError(ToolError):
    """An event that was not taken; its dead letter stays."""


class Redelivery:
    """A way back, ``target`` or ``bus``. ``deliver`` returns when AWS has acknowledged, and raises if it has not."""

    def __init__(self, aws: Aws, way: str) -> None:
        self._aws, self._way = aws, way
        self._check_bus, self._targets = cache(self._ask_for_bus), cache(self._ask_for_targets)
        self._open_stream = cache(self._create_stream)

    def deliver(self, rule: str, target: str, event: Any) -> None:
        """Raises NotRedeliveredError or botocore's errors. ``rule``: ARN, or "" for what a function gave up on."""
        if is_encrypted(event):
            raise NotRedeliveredError(
                "EventBridge wrote this one encrypted, for want of the bus's key",
                advice="Decrypt its detail.encrypted-payload with that key, and send what comes out. How: EventBridge "
                "guide, 'Decrypting events in dead-letter queues'.",
            )
        if (
            event is None
            or not target
            or (rule and not (isinstance(event, dict) and event.keys() >= _ENVELOPE))
        ):
            raise NotRedeliveredError("this message is no dead letter of EventBridge or Lambda")
        if self._way == "bus":
            self._to_bus(rule, event)
        elif not rule:
            self._hand_over(graph.Target("", target), payload.compact(event))
        else:
            self._to_target(rule, graph.bare(target), event)

    def _to_bus(self, rule: str, event: Any) -> None:
        advice = "Send it to the target."
        if not rule:
            raise NotRedeliveredError(
                "a function's record does not say from which bus it came", advice=advice
            )
        if str(event.get("source", "")).startswith("aws."):
            raise NotRedeliveredError(
                f"only AWS may put events of the source {event['source']}", advice=advice
            )
        self._put(_bus_of(rule), event)

    def _to_target(self, rule: str, arn: str, event: dict[str, Any]) -> None:
        found = [one for one in self._targets(rule) if one.arn == arn]
        if len(found) != 1:
            raise NotRedeliveredError(
                f"the rule has {len(found) or 'no'} target{'s' * bool(found)} {arn}",
                where=rule,
                advice="Send it to the bus."
                if found
                else "Put the target back, or send it to the bus.",
            )
        # When EventBridge first took the event is not in the letter; it was not before the event's own time.
        sender = graph.Rule(_name(rule), _name(rule), rule, _bus_of(rule), None)
        made = payload.build(sender, found[0], event, event.get("time"))
        if made.problem:
            raise NotRedeliveredError(made.problem, where=arn, advice="Send it to the bus.")
        if not found[0].is_bus:
            self._hand_over(found[0], made.text)
        elif arn.split(":")[4] == rule.split(":")[4]:
            self._put(
                arn,
                event
                if made.text == payload.compact(event)
                else {**event, "detail": json.loads(made.text)},
            )
        else:
            raise NotRedeliveredError(
                "nobody can tell from here whether a bus of another account exists",
                where=arn,
                advice="Send it to its own bus.",
            )

    def _put(self, bus: str, event: dict[str, Any]) -> None:
        self._check_bus(bus)
        entry = {
            "EventBusName": buses.name_of(bus),
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": payload.compact(event["detail"]),
            "Resources": event.get("resources", []),
            "Time": datetime.fromisoformat(event["time"]),
        }
        answer = self._client("events", bus).put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise NotRedeliveredError("{ErrorCode}: {ErrorMessage}".format(**answer["Entries"][0]))

    def _hand_over(self, target: graph.Target, text: str) -> None:
        arn = target.arn
        if target.service == "lambda":
            self._client("lambda", arn).invoke(
                FunctionName=arn, InvocationType="Event", Payload=text.encode()
            )
        elif target.service == "sns":
            self._client("sns", arn).publish(TopicArn=arn, Message=text)
        elif target.service == "states":
            self._client("stepfunctions", arn).start_execution(stateMachineArn=arn, input=text)
        elif target.service == "sqs":
            sqs, (account, name) = self._client("sqs", arn), arn.split(":")[4:]
            url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
            group = (target.settings.get("SqsParameters") or {}).get("MessageGroupId")
            sqs.send_message(
                QueueUrl=url, MessageBody=text, **({"MessageGroupId": group} if group else {})
            )
        elif target.service == "logs":
            self._write(target, text)
        else:
            raise NotRedeliveredError(
                f"this tool cannot deliver to {target.service}",
                where=arn,
                advice="Send it to the bus.",
            )

    def _write(self, target: graph.Target, text: str) -> None:
        when = int(time.time() * 1000)
        if (
            "InputTransformer" in target.settings
        ):  # it makes the log event itself (EventBridge guide, targets)
            made = json.loads(text)
            text, when = made["message"], _milliseconds(made["timestamp"], target.arn)
            text = text if isinstance(text, str) else payload.compact(text)
        self._open_stream(target.arn)
        answer = self._client("logs", target.arn).put_log_events(
            **_stream(target.arn), logEvents=[{"timestamp": when, "message": text}]
        )
        if refused := answer.get("rejectedLogEventsInfo"):
            raise NotRedeliveredError(
                f"the log group refuses its time: {refused}", where=target.arn
            )

    def _client(self, service: str, arn: str) -> Any:
        return self._aws.client(service, arn.split(":")[3])

    def _create_stream(self, arn: str) -> None:
        with Ignoring(EXISTS):
            self._client("logs", arn).create_log_stream(**_stream(arn))

    def _ask_for_bus(self, bus: str) -> None:
        """An event for a bus that is not there would be acknowledged, and gone."""
        buses.check(self._client("events", bus), buses.name_of(bus))

    def _ask_for_targets(self, rule: str) -> list[graph.Target]:
        events, found = self._client("events", rule), []
        with Ignoring(GONE):
            found = events.list_targets_by_rule(
                Rule=_name(rule), EventBusName=buses.name_of(_bus_of(rule))
            )["Targets"]
        return [graph.Target(one["Id"], graph.bare(one["Arn"]), one) for one in found]


def _milliseconds(moment: Any, where: str) -> int:
    """The time of a log event, which an InputTransformer gives as milliseconds or, from $.time, as ISO 8601."""
    try:
        if isinstance(moment, str) and not moment.isdecimal():
            return int(datetime.fromisoformat(moment).timestamp() * 1000)
        return int(moment)
    except (ValueError, TypeError, OverflowError):
        raise NotRedeliveredError(
            f"the InputTransformer makes a timestamp that is no time: {moment!r}",
            where=where,
            advice="Send it to the bus.",
        ) from None


def _stream(arn: str) -> dict[str, str]:
    return {"logGroupName": arn.partition(":log-group:")[2], "logStreamName": STREAM}


def _bus_of(rule: str) -> str:
    """The ARN of the bus of a rule's ARN: …:rule/<bus>/<name>, on the default bus …:rule/<name>."""
    start, _, path = rule.partition(":rule/")
    return f"{start}:event-bus/{path.rpartition('/')[0] or 'default'}"


def _name(arn: str) -> str:
    """The name at the end of the ARN of a rule."""
    return arn.rsplit("/", 1)[-1]
