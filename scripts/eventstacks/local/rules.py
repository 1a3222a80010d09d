"""AWS::Events::Rule: numbers that come from parameters, which CloudFormation passes to PutTargets as numbers."""

from collections.abc import Callable
from typing import Any

from eventstacks.local.ministack import Json
from eventstacks.local.resources import KNOWN


def with_numbers(target: Json) -> Json:
    """Return a target whose RetryPolicy consists of integers."""
    policy = {key: int(value) for key, value in (target.get("RetryPolicy") or {}).items()}
    return {**target, "RetryPolicy": policy} if policy else target


def _wrap(handler: Callable[..., Any], place: int) -> Callable[..., Any]:
    """Return a handler whose properties, at this position of its arguments, hold such targets."""

    def outer(*arguments: Any) -> Any:
        props = arguments[place]
        if isinstance(props.get("Targets"), list):
            props = {**props, "Targets": [with_numbers(one) for one in props["Targets"]]}
        return handler(*arguments[:place], props, *arguments[place + 1 :])

    return outer


_RULE = KNOWN["AWS::Events::Rule"]
# create(logical_id, props, stack) and update(physical_id, old_props, new_props, stack).
_RULE["create"], _RULE["update"] = _wrap(_RULE["create"], 1), _wrap(_RULE["update"], 2)
