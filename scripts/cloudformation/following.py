"""Following what somebody else, or an earlier run, has started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.cloudformation import calls, operation, recovery, results, schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.aws import Aws
    from scripts.cloudformation.order import Key, Pair
    from scripts.cloudformation.place import Place


def follow(
    aws: Aws, pairs: Sequence[Pair], *, listener: results.Listener | None = None, clock: calls.Clock | None = None
) -> list[results.Result]:
    """Follows the operations that are under way; gives a result for each, [] when there are none.

    Raises aws.AccountError, and Interrupted after Ctrl-C.
    """
    clock, listener = clock or calls.Clock(), listener or results.Listener()
    under_way: dict[Key, Place] = {}

    def job(place: Place, client: Any) -> results.Result | None:
        stack = calls.find_stack(client, place.stack_name, clock=clock)
        if stack is None or not operation.is_under_way(stack["StackStatus"]):
            return None
        under_way[place.key] = place

        def work() -> results.Result:
            running = operation.under_way(client, stack["StackId"], clock)
            return recovery.finish(client, running, place, clock, listener)

        return results.attempt(place, work, under_way, clock=clock, listener=listener)

    try:
        return [one for one in schedule.everywhere(aws, pairs, job, clock=clock) if one]
    except KeyboardInterrupt:
        raise results.Interrupted(list(under_way.values())) from None
