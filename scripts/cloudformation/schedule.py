"""Work on many stacks at once, each after those that it needs."""

from __future__ import annotations

import graphlib
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from scripts.cloudformation.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scripts.aws import Aws
    from scripts.cloudformation.calls import Clock
    from scripts.cloudformation.order import Key, Pair

Found = TypeVar("Found")
THREADS = 16


def run(before: Mapping[Key, set[Key]], job: Callable[[Key], Found], *, threads: int, clock: Clock) -> dict[Key, Found]:
    """``job(key)`` for every key, when those before it are done; at most ``threads`` at a time.

    On Ctrl-C stops the clock, so that the jobs end where they wait, lets them end, starts no more and raises
    KeyboardInterrupt. A job says itself what happens when one before it has failed.
    """
    sorter = graphlib.TopologicalSorter(before)
    sorter.prepare()
    running: dict[Future[Found], Key] = {}
    done: dict[Key, Found] = {}
    with ThreadPoolExecutor(max_workers=max(1, min(threads, len(before)))) as pool:
        try:
            while sorter.is_active():
                running.update({pool.submit(job, key): key for key in sorter.get_ready()})
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    key = running.pop(future)
                    done[key] = future.result()
                    sorter.done(key)
        except BaseException:
            clock.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return done


def at_once(
    keys: Iterable[Key], job: Callable[[Key], Found], *, clock: Clock, threads: int = THREADS
) -> dict[Key, Found]:
    """``run`` for keys that do not wait for each other."""
    return run({key: set() for key in keys}, job, threads=threads, clock=clock)


def everywhere(aws: Aws, pairs: Sequence[Pair], job: Callable[[Place, Any], Found], *, clock: Clock) -> list[Found]:
    """``job(place, CloudFormation client)`` for every pair at once; results in their order. Raises aws.AccountError."""
    aws.guard()
    places = {place.key: place for place in (Place.of(aws.environment, pair) for pair in pairs)}
    found = at_once(places, lambda key: job(places[key], aws.client("cloudformation", key[1])), clock=clock)
    return [found[key] for key in places]
