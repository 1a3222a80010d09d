"""Several processes send; this one reads the input and keeps the account."""

from __future__ import annotations

import dataclasses
import multiprocessing
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from scripts.errors import ToolError
from scripts.events.ledger import Outcome
from scripts.events.ranges import is_in
from scripts.events.send import Sender, Settings, destinations_of, noted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from multiprocessing.connection import Connection

    from scripts.events.ledger import Ledger, Summary
    from scripts.events.records import Chunk

END = "end"  # what a child is told after the last chunk


class ProcessError(ToolError):
    """A sending process ended early; the account says what it had settled."""


def send_in_processes(  # noqa: PLR0913, PLR0917 - send_chunks, and how many
    processes: int, chunks: Iterable[Chunk], make_client: Callable[[str], Any], ledger: Ledger,
    settings: Settings | None = None, stop: threading.Event | None = None,
) -> Summary:  # fmt: skip
    """``send_chunks`` to the ledger's destinations with several processes, each with ``settings.threads`` threads.

    ``make_client``: from a region to a boto3 ``events`` client; it is called in the processes, so it must be
    a function of a module (or a ``functools.partial`` of one). Raises ProcessError when one of them fails.
    """
    started = time.monotonic()
    stop = stop or threading.Event()
    settings = settings or Settings()
    share = dataclasses.replace(settings, rate=settings.rate / processes if settings.rate else None)
    parent = _Parent(chunks, ledger, stop)
    try:
        if parent.run([(make_client, ledger.destinations, ledger.before, share)] * processes):
            ledger.end()
    finally:
        ledger.summary.seconds = time.monotonic() - started
    return ledger.summary


class _Parent:
    def __init__(self, chunks: Iterable[Chunk], ledger: Ledger, stop: threading.Event) -> None:
        self.chunks, self.ledger, self.stop = chunks, ledger, stop
        self.inbox: queue.Queue[Chunk | None] = queue.Queue(4)
        self.ended = self.done = False  # the input, and everything
        self.fault: Exception | None = None

    def run(self, children: list[tuple[Any, ...]]) -> bool:
        context = multiprocessing.get_context("spawn")
        threading.Thread(target=self._read, daemon=True).start()
        threads, settled = [], [False] * len(children)
        for number, arguments in enumerate(children):
            work, our_work = context.Pipe(duplex=False)
            account, our_account = context.Pipe()
            stop, our_stop = context.Pipe(duplex=False)
            context.Process(target=_child, args=(work, account, stop, *arguments), daemon=True).start()
            work.close()
            account.close()
            stop.close()
            threading.Thread(target=self._pass_on, args=(our_stop,), daemon=True).start()
            threading.Thread(target=self._feed, args=(our_work,), daemon=True).start()
            threads.append(threading.Thread(target=self._receive, args=(our_account, settled, number), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()
        self.done = True
        if self.fault:
            raise self.fault
        return self.ended and not self.stop.is_set() and all(settled)

    def _pass_on(self, child: Connection) -> None:
        """Tells a child to stop, by closing its pipe (as the death of this process does)."""
        while not self.done and not self.stop.wait(0.1):
            pass
        child.close()

    def _read(self) -> None:
        try:
            for chunk in noted(self.chunks, self.ledger):
                self.inbox.put(chunk)
                if self.stop.is_set():
                    break
            else:
                self.ended = True
        except Exception as error:  # noqa: BLE001 - raised again by the thread that called
            self._fail(error)
        self.inbox.put(None)

    def _fail(self, error: Exception) -> None:
        self.fault = self.fault or error
        self.stop.set()

    def _feed(self, child: Connection) -> None:
        try:
            while True:
                try:
                    chunk = self.inbox.get(timeout=0.1)
                except queue.Empty:
                    if self.stop.is_set():
                        break
                    continue
                if chunk is None:
                    self.inbox.put(None)  # for the next one
                    break
                child.send(chunk)
            child.send(END)
        except OSError:
            pass  # it is gone, which the one who receives from it will say

    def _receive(self, child: Connection, settled: list[bool], number: int) -> None:
        try:
            while isinstance(message := child.recv(), Outcome):
                self.ledger.settle(message)
                child.send(None)  # noted
            if isinstance(message, str):
                self._fail(ProcessError(message))
            settled[number] = message is True
        except (EOFError, OSError):
            self._fail(ProcessError("a sending process was ended from outside", advice="--resume sends the rest."))
        except Exception as error:  # noqa: BLE001 - the account cannot be kept
            self._fail(error)


class _RemoteLedger:
    """The ledger of a child: it tells the parent, and waits until that has noted it.

    So what may come twice after a kill stays what was under way: one call per thread.
    """

    def __init__(self, parent: Connection, before: list[list[tuple[int, int]]]) -> None:
        self.before = before
        self._parent, self._lock = parent, threading.Lock()

    def is_settled(self, lane: int, number: int) -> bool:
        return is_in(self.before[lane], number)

    def settle(self, outcome: Outcome) -> None:
        with self._lock:
            self._parent.send(outcome)
            self._parent.recv()


def _hear(stop: Connection, told: threading.Event) -> None:
    stop.poll(None)
    told.set()


def _child(  # noqa: PLR0913, PLR0917 - what a process is given
    work: Connection, parent: Connection, stop: Connection, make_client: Callable[[str], Any],
    destinations: Sequence[tuple[str, str]], before: list[list[tuple[int, int]]], settings: Settings,
) -> None:  # fmt: skip
    for one in (signal.SIGINT, signal.SIGTERM):  # the parent decides when it ends
        signal.signal(one, signal.SIG_IGN)
    told = threading.Event()
    threading.Thread(target=_hear, args=(stop, told), daemon=True).start()
    try:
        sender = Sender(destinations_of(destinations, make_client), _RemoteLedger(parent, before), settings, told)
        parent.send(sender.run(iter(work.recv, END)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone: nobody keeps the account any more
    except Exception as error:  # noqa: BLE001 - told in words, since not every error can be pickled
        parent.send(f"{type(error).__name__}: {error}")
