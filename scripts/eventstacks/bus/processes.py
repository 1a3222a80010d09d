"""Calls made in other processes: signing and sending are nine tenths of the work, and Python does them one at a time.

Reading, packing, the rate, repeats and the account stay in one place: each thread of the sender asks a thread of one
of the processes to make a call, and waits for its answer. So what a kill may leave open stays one call per thread.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from eventstacks.bus.send import Destination, putter
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from eventstacks.bus.calls import Failure
    from eventstacks.bus.send import Put

ENDINGS = (signal.SIGINT, signal.SIGTERM)


class ProcessError(ToolError):
    """A process that sends has ended, or could not begin; the account says what is open."""


@contextlib.contextmanager
def start(
    processes: int,
    threads: int,
    destinations: Sequence[tuple[str, str]],
    make_client: Callable[[str], Any],
) -> Iterator[list[Put]]:
    """Starts processes with so many threads each; gives what ``send_chunks`` takes as ``puts``. For the main thread.

    ``destinations``: (region, bus) pairs. ``make_client``: from a region to a boto3 ``events`` client; it is called in
    the processes, so it is a function of a module (or a ``functools.partial`` of one).
    """
    context = multiprocessing.get_context("spawn")
    ours: list[Connection] = []
    children = []
    try:
        before = [
            signal.signal(one, signal.SIG_IGN) for one in ENDINGS
        ]  # inherited: who asks decides when they end
        try:
            for _ in range(processes):
                pairs = [context.Pipe() for _ in range(threads)]
                ours += [one for one, _ in pairs]
                arguments = ([other for _, other in pairs], destinations, make_client)
                children.append(context.Process(target=_serve, args=arguments, daemon=True))
                children[-1].start()
                for _, other in pairs:
                    other.close()
        finally:
            for ending, handler in zip(ENDINGS, before, strict=True):
                signal.signal(ending, handler)
        yield [functools.partial(_ask, one) for one in ours]
    finally:
        for child in children:
            if child.pid:
                child.kill()  # what was sent is settled; a second Ctrl-C waits for nobody


def _ask(process: Connection, lane: int, entries: list[bytes]) -> list[Failure | None]:
    try:
        process.send((lane, entries))
        answer = process.recv()
    except (EOFError, OSError):
        raise ProcessError(
            "a sending process was ended from outside", advice="--resume sends the rest."
        ) from None
    if isinstance(answer, Exception):
        raise answer
    failures: list[Failure | None] = answer
    return failures


def _serve(
    pipes: Sequence[Connection],
    destinations: Sequence[tuple[str, str]],
    make_client: Callable[[str], Any],
) -> None:
    try:
        clients = {region: make_client(region) for region, _ in destinations}
        put = putter([Destination(clients[region], bus) for region, bus in destinations])
    except Exception as error:  # noqa: BLE001 - told in words, since not every error can be pickled
        problem = ProcessError(f"{type(error).__name__}: {error}")
        for one in pipes:
            one.send(problem)
        return
    threads = [threading.Thread(target=_answer, args=(one, put)) for one in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _answer(asker: Connection, put: Put) -> None:
    while True:
        try:
            lane, entries = asker.recv()
        except (EOFError, OSError):  # nobody keeps the account any more
            os._exit(0)
        try:
            answer: Any = put(lane, entries)
        except Exception as error:  # noqa: BLE001 - as above
            answer = ProcessError(f"{type(error).__name__}: {error}")
        with contextlib.suppress(OSError):
            asker.send(answer)
