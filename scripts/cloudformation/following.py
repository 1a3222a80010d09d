"""Following what somebody else, or an earlier run, has started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from scripts.cloudformation import calls, failure, operation, recovery, schedule
from scripts.cloudformation.deployment import Interrupted, Listener, Result
from scripts.cloudformation.place import Place
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.aws import Aws
    from scripts.cloudformation.calls import Clock
    from scripts.cloudformation.order import Key, Pair
    from scripts.environment import Environment


def follow(
    aws: Aws,
    environment: Environment,
    pairs: Sequence[Pair],
    *,
    listener: Listener | None = None,
    clock: Clock | None = None,
) -> list[Result]:
    """Follows the operations that are under way; gives a result for each, [] when there are none.

    Raises aws.AccountError, and Interrupted after Ctrl-C.
    """
    aws.guard()
    clock, listener = clock or calls.Clock(), listener or Listener()
    places = {place.key: place for place in (Place.of(environment, pair) for pair in pairs)}
    under_way: set[Key] = set()

    def job(key: Key) -> Result | None:
        place, begun = places[key], clock.now()
        client = aws.client("cloudformation", place.region)
        try:
            stack = calls.find_stack(client, place.stack_name, clock=clock)
            if (
                stack is None
                or not stack["StackStatus"].endswith("_IN_PROGRESS")
                or stack["StackStatus"] == "REVIEW_IN_PROGRESS"
            ):
                return None
            under_way.add(key)
            running = operation.under_way(client, stack["StackId"], clock)
            result = recovery.finish(client, running, place, clock, listener)
        except calls.Stopped:
            return Result(place, "interrupted")
        except operation.LostSightError as error:
            result = Result(place, "unknown", problem=error)
        except (ToolError, ClientError, BotoCoreError) as error:
            result = Result(place, "failed", status=getattr(error, "status", ""), problem=failure.wrap(error, place))
        under_way.discard(key)
        result.seconds = clock.now() - begun
        listener.finished(result)
        return result

    try:
        found = schedule.run({key: set() for key in places}, job, threads=16, clock=clock)
    except KeyboardInterrupt:
        raise Interrupted([places[key] for key in under_way], []) from None
    return [result for key in places if (result := found[key])]
