"""How many events a second the pattern engine matches, beside the embedded AWS's engine.

Run by `make bench-patterns`. Every engine gets the same parsed events and the same rules;
the verdicts must agree.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from eventstacks.patterns.matcher import Pattern

SECONDS = 0.9
ROUNDS = 3
STATES = ["pending", "running", "shutting-down", "stopped", "terminated"]


def make_events() -> list[dict[str, Any]]:
    """Events of twenty sources, some 600 bytes each, with arrays, numbers and addresses."""
    return [
        {
            "version": "0",
            "id": f"{number:08d}-1111-2222-3333-444444444444",
            "source": f"shop.service{number % 20}",
            "detail-type": ["Order Placed", "Order Shipped", "Payment Failed"][number % 3],
            "account": "111122223333",
            "region": "eu-central-1",
            "time": "2026-01-01T12:00:00Z",
            "resources": [f"arn:aws:ec2:eu-central-1:111122223333:instance/i-{number:08x}"],
            "detail": {
                "state": STATES[number % 5],
                "order": {"id": f"o-{number}", "total": (number * 37) % 1000, "currency": "EUR"},
                "address": f"10.{number % 7}.0.{number % 250}",
                "file": f"/upload/{number % 9}/picture.{'png' if number % 2 else 'JPG'}",
                "tags": ["a", "b", f"t{number % 11}"],
                "customer": {
                    "name": "Someone",
                    "level": number % 4,
                    "country": ["de", "fr", "us"][number % 3],
                },
            }
            | ({"error": None} if number % 10 == 0 else {}),
        }
        for number in range(500)
    ]


def make_pattern(number: int) -> dict[str, Any]:
    """One of ten kinds of pattern, most of them for one source."""
    detail: dict[str, Any] = [
        {"state": [STATES[number % 5]]},
        {"order": {"total": [{"numeric": [">", number * 9 % 900, "<=", number * 9 % 900 + 200]}]}},
        {"file": [{"suffix": ".png"}], "state": [{"anything-but": ["pending"]}]},
        {"address": [{"cidr": f"10.{number % 7}.0.0/16"}]},
        {"file": [{"wildcard": f"/upload/{number % 9}/*.png"}]},
        {"customer": {"country": [{"equals-ignore-case": "DE"}], "level": [number % 4]}},
        {"error": [{"exists": False}], "tags": [f"t{number % 11}"]},
        {"$or": [{"state": ["running"]}, {"order": {"total": [{"numeric": [">", 900]}]}}]},
        {"state": [{"prefix": "s"}, {"prefix": {"equals-ignore-case": "TERM"}}]},
        {"state": [{"anything-but": {"prefix": "s"}}], "order": {"currency": ["EUR", "USD"]}},
    ][number % 10]
    pattern: dict[str, Any] = {"detail": detail}
    if number % 10 != 4:
        pattern["source"] = [f"shop.service{number // 5 % 20}"]
    if number % 2:
        pattern["detail-type"] = ["Order Placed", {"prefix": "Payment"}]
    return pattern


def match_all(rules: dict[str, Pattern]) -> Callable[[dict[str, Any]], list[str]]:
    """Return a function that names the rules that match an event."""
    return lambda event: [name for name, pattern in rules.items() if pattern.matches(event)]


def measure(match: Callable[[dict[str, Any]], object], events: list[dict[str, Any]]) -> float:
    """Events a second of processor time: the best of some rounds.

    Other work on the machine hardly changes it.
    """
    best = 0.0
    for _ in range(ROUNDS):
        count, start = 0, time.process_time()
        while (spent := time.process_time() - start) < SECONDS / ROUNDS:
            for event in events:
                match(event)
            count += len(events)
        best = max(best, count / spent)
    return best


def main() -> int:
    """Print the table; 1 if the engines disagree."""
    from ministack.services import eventbridge

    events = make_events()
    patterns = {f"rule{number}": make_pattern(number) for number in range(1000)}
    texts = {name: json.dumps(pattern) for name, pattern in patterns.items()}

    details = {id(event): json.dumps(event["detail"]) for event in events}

    def theirs(names: list[str]) -> Callable[[dict[str, Any]], list[str]]:
        rules = [(name, texts[name]) for name in names]

        def matching(event: dict[str, Any]) -> list[str]:
            view = eventbridge._EventView(
                event, details[id(event)]
            )  # made for each event, as when it is put
            return [name for name, text in rules if eventbridge._matches_pattern_view(text, view)]

        return matching

    # One rule: each of the ten kinds alone, the slowest counts.
    sets = [[name] for name in list(patterns)[:10]] + [list(patterns)[:100], list(patterns)]
    rates: dict[int, list[tuple[float, float, float]]] = {}
    for names in sets:
        ours = match_all({name: Pattern(patterns[name]) for name in names})
        verdicts = [ours(event) for event in events]
        if verdicts != [theirs(names)(event) for event in events]:
            sys.stderr.write(f"the engines disagree on {', '.join(names)}\n")
            return 1
        matched = sum(map(len, verdicts)) / len(events)
        rates.setdefault(len(names), []).append(
            (measure(ours, events), measure(theirs(names), events), matched)
        )
    table = Table(
        "rules",
        "events/s",
        "events/s, MiniStack",
        "matches an event",
        title="events a second of processor time",
    )
    for count, measured in rates.items():
        mine, other, matched = map(min, zip(*measured, strict=True))
        table.add_row(f"{count:,}", f"{mine:,.0f}", f"{other:,.0f}", f"{matched:.2f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
