"""Work on many stacks at once, each after those that it needs."""

from __future__ import annotations

import graphlib
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from eventstacks.aws import Clock
from eventstacks.cloudformation.stack import Remote
from eventstacks.environment import StackRef

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef

Found = TypeVar("Found")
Item = TypeVar("Item")
THREADS = 16
HEARING = 0.5  # seconds: a Ctrl-C that comes in the moment before a wait is heard when that ends


def run(
    before: Mapping[Item, set[Item]], job: Callable[[Item], Found], clock: Clock
) -> dict[Item, Found]:
    """``job(item)`` for every item, when those before it are done; at most ``THREADS`` at a time.

    On Ctrl-C stops the clock, so that the jobs end where they wait, lets them end, starts no more and raises
    KeyboardInterrupt. A job says itself what happens when one before it has failed.
    """
    sorter = graphlib.TopologicalSorter(before)
    sorter.prepare()
    running: dict[Future[Found], Item] = {}
    done: dict[Item, Found] = {}
    with ThreadPoolExecutor(max_workers=max(1, min(THREADS, len(before)))) as pool:
        try:
            while sorter.is_active():
                running.update({pool.submit(job, item): item for item in sorter.get_ready()})
                finished, _ = wait(running, timeout=HEARING, return_when=FIRST_COMPLETED)
                for future in finished:
                    item = running.pop(future)
                    done[item] = future.result()
                    sorter.done(item)
        except BaseException:
            clock.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return done


def at_once(items: Collection[Item], job: Callable[[Item], Found], clock: Clock) -> list[Found]:
    """``run`` for items that do not wait for each other; results in their order."""
    done = run({item: set() for item in items}, job, clock)
    return [done[item] for item in items]


def remotes(aws: Aws, refs: Sequence[StackRef], clock: Clock) -> list[Remote]:
    """The stacks of ``refs``, all on one clock. Raises aws.AccountError for the wrong account."""
    aws.guard()
    return [Remote(ref, aws.client("cloudformation", ref.region), clock) for ref in refs]


def everywhere(
    aws: Aws, refs: Sequence[StackRef], job: Callable[[Remote], Found], clock: Clock | None = None
) -> list[Found]:
    """``job`` for every ref at once; results in their order. Raises aws.AccountError."""
    clock = clock or Clock()
    return at_once(remotes(aws, refs, clock), job, clock)
