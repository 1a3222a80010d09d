"""Deliver the event of a dead-letter message again: to its target, as the rule would, or to its bus."""

from __future__ import annotations

import json
import time
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from eventstacks.aws import suppress_aws_error
from eventstacks.bus.dead_letters import is_encrypted
from eventstacks.bus.stacks import bus_name, check_bus
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import graph, payload

if TYPE_CHECKING:
    from eventstacks.aws import Aws
    from eventstacks.bus.dead_letters import Message

_ENVELOPE = {"source", "detail-type", "detail", "time"}
_LOG_EVENT = {"timestamp": int, "message": str}
STREAM = "redriven"  # the log stream of redelivered events
TO_BUS = "Send it to the bus: --to bus."
TO_TARGET = "Send it to the target: --to target."


class NotRedeliveredError(ToolError):
    """An event that was not accepted; its message stays in the dead-letter queue."""

    default_code = ErrorCode.EVENT_REJECTED


class Redelivery:
    """Deliver events to their ``target`` or their ``bus``."""

    def __init__(self, aws: Aws, to: str) -> None:
        self._aws, self._to = aws, to
        self._check_bus, self._targets = cache(self._ask_for_bus), cache(self._ask_for_targets)
        self._create_stream = cache(self._ask_for_stream)

    def deliver(self, message: Message) -> None:
        """Return when AWS has accepted the event. Raises NotRedeliveredError or botocore's errors."""
        rule, target, event = message.rule, message.target, message.event
        if is_encrypted(event):
            raise NotRedeliveredError(
                "EventBridge stored this event encrypted, because it could not use the bus's key",
                advice="Decrypt its detail.encrypted-payload with that key, and send the result. "
                "How: EventBridge User Guide, 'Decrypting events in dead-letter queues'.",
            )
        is_event = isinstance(event, dict) and event.keys() >= _ENVELOPE
        if event is None or not target or (rule and not is_event):
            raise NotRedeliveredError("not a dead-letter message of EventBridge or Lambda")
        if not rule and self._to == "bus":
            raise NotRedeliveredError("a function's record does not name a bus", advice=TO_TARGET)
        if not rule:
            self._send(graph.Target("", target), payload.compact(event))
        elif self._to == "target":
            self._send_to_target(rule, graph.bare(target), event)
        elif str(event["source"]).startswith("aws."):
            raise NotRedeliveredError(
                f"only AWS may send events of the source {event['source']}", advice=TO_TARGET
            )
        else:
            self._put(_bus_of(rule), event)

    def _send_to_target(self, rule: str, arn: str, event: dict[str, Any]) -> None:
        targets = [one for one in self._targets(rule) if one.arn == arn]
        if len(targets) != 1:
            raise NotRedeliveredError(
                f"the rule has {len(targets) or 'no'} target{'s' * bool(targets)} {arn}",
                where=rule,
                advice=TO_BUS if targets else f"Add the target again, or: {TO_BUS}",
            )
        # The message does not say when EventBridge received the event: not before the event's time.
        source = graph.Rule(_name(rule), _name(rule), rule, _bus_of(rule), None)
        built = payload.build(source, targets[0], event, event.get("time"))
        if built.problem:
            raise NotRedeliveredError(built.problem, where=arn, advice=TO_BUS)
        if not targets[0].is_bus:
            self._send(targets[0], built.text)
        elif arn.split(":")[4] == rule.split(":")[4]:
            is_whole = built.text == payload.compact(event)
            self._put(arn, event if is_whole else {**event, "detail": json.loads(built.text)})
        else:
            raise NotRedeliveredError(
                "cannot check that a bus of another account exists",
                where=arn,
                advice="Send it to its own bus: --to bus.",
            )

    def _put(self, bus: str, event: dict[str, Any]) -> None:
        self._check_bus(bus)
        entry = {
            "EventBusName": bus_name(bus),
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": payload.compact(event["detail"]),
            "Resources": event.get("resources", []),
            "Time": datetime.fromisoformat(event["time"]),
        }
        answer = self._client("events", bus).put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise NotRedeliveredError("{ErrorCode}: {ErrorMessage}".format(**answer["Entries"][0]))

    def _send(self, target: graph.Target, text: str) -> None:
        arn, service = target.arn, target.service
        if service == "lambda":
            call = {"FunctionName": arn, "InvocationType": "Event", "Payload": text.encode()}
            self._client("lambda", arn).invoke(**call)
        elif service == "sns":
            self._client("sns", arn).publish(TopicArn=arn, Message=text)
        elif service == "states":
            self._client("stepfunctions", arn).start_execution(stateMachineArn=arn, input=text)
        elif service == "sqs":
            sqs, (account, name) = self._client("sqs", arn), arn.split(":")[4:]
            url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
            settings = target.settings.get("SqsParameters") or {}  # the MessageGroupId
            sqs.send_message(QueueUrl=url, MessageBody=text, **settings)
        elif service == "logs":
            self._log(target, text)
        else:
            raise NotRedeliveredError(f"cannot deliver to {service}", where=arn, advice=TO_BUS)

    def _log(self, target: graph.Target, text: str) -> None:
        event: dict[str, Any] = {"timestamp": int(time.time() * 1000), "message": text}
        # The transformer makes the log event itself (EventBridge User Guide, targets).
        if "InputTransformer" in target.settings:
            event = json.loads(text)
            if not all(isinstance(event[key], kind) for key, kind in _LOG_EVENT.items()):
                raise NotRedeliveredError(
                    "the InputTransformer makes no log event: timestamp in ms, message as text",
                    where=target.arn,
                    advice=TO_BUS,
                )
        self._create_stream(target.arn)
        answer = self._client("logs", target.arn).put_log_events(
            **_stream(target.arn), logEvents=[event]
        )
        if rejected := answer.get("rejectedLogEventsInfo"):
            raise NotRedeliveredError(
                f"the log group rejects the timestamp: {rejected}", where=target.arn
            )

    def _client(self, service: str, arn: str) -> Any:
        return self._aws.client(service, arn.split(":")[3])

    def _ask_for_stream(self, arn: str) -> None:
        with suppress_aws_error("ResourceAlreadyExistsException"):
            self._client("logs", arn).create_log_stream(**_stream(arn))

    def _ask_for_bus(self, bus: str) -> None:
        check_bus(self._client("events", bus), bus_name(bus))

    def _ask_for_targets(self, rule: str) -> list[graph.Target]:
        targets: list[dict[str, Any]] = []
        with suppress_aws_error("ResourceNotFoundException"):
            targets = self._client("events", rule).list_targets_by_rule(
                Rule=_name(rule), EventBusName=bus_name(_bus_of(rule))
            )["Targets"]
        return [graph.Target(one["Id"], graph.bare(one["Arn"]), one) for one in targets]


def _stream(arn: str) -> dict[str, str]:
    return {"logGroupName": arn.partition(":log-group:")[2], "logStreamName": STREAM}


def _bus_of(rule: str) -> str:
    """Return the ARN of a rule's bus: …:rule/<bus>/<name>, on the default bus …:rule/<name>."""
    start, _, path = rule.partition(":rule/")
    return f"{start}:event-bus/{path.rpartition('/')[0] or 'default'}"


def _name(arn: str) -> str:
    """Return the name at the end of a rule's ARN."""
    return arn.rsplit("/", 1)[-1]
