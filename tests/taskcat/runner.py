"""taskcat on the embedded AWS: create, send an event through, delete, look that nothing is left.

Run by launcher.py, with taskcat's own Python and AWS_ENDPOINT_URL in the environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import deliveries
import leftovers

NOT_EMBEDDED = "AWS::EventsV2"  # its resource types exist on AWS only


def reasons(events: Iterable[Any], verbs: tuple[str, ...] = ("CREATE", "DELETE")) -> list[str]:
    """The reasons of the resources that failed, the first failure first.

    The events are newest first. Resources that were merely cancelled are left out.
    """
    failed = [
        event
        for event in events
        if event.status in {f"{verb}_FAILED" for verb in verbs}
        and event.type != "AWS::CloudFormation::Stack"
        and "cancelled" not in event.status_reason
    ]
    return [
        f"{one.logical_id} ({one.type}) {one.status}: {one.status_reason}"
        for one in reversed(failed)
    ]


def creation_problems(stack: Any) -> list[str]:
    """Why a stack was not created; empty when it was.

    The reasons of its resources, or CloudFormation's for the whole stack.
    """
    if stack.status == "CREATE_COMPLETE":
        return []
    found = [] if stack.launch_exception else reasons(stack.events(refresh=True))
    return found or [f"{stack.status}: {stack.status_reason or 'no reason given'}"]


def deletion_problems(stack: Any) -> list[str]:
    """Why a stack is still there after its deletion."""
    if (
        stack.launch_exception
        or stack.status == "DELETE_COMPLETE"
        or stack.status_reason.startswith("COMPLETE event")
    ):
        return []  # the last is taskcat's status of a deleted stack that was never complete
    return reasons(stack.events(refresh=True), ("DELETE",)) or [
        f"{stack.status}: {stack.status_reason}"
    ]


def look(stack: Any) -> tuple[str, list[str]]:
    """A line on one stack in one region, and its problems."""
    problems, said = creation_problems(stack), "FAILED"
    if not problems:
        outputs, parameters = (
            {one.key: one.value for one in some} for some in (stack.outputs, stack.parameters)
        )
        try:
            said, problems = deliveries.check(stack.region_name, outputs, parameters)
        except Exception as error:  # noqa: BLE001 - one stack's trouble must not hide the others'
            problems = [f"no event could be sent through it: {error}"]
    place = f"{stack.test_name}, {stack.region_name}"
    result = "FAILED" if problems else said
    return f"{stack.test_name:26} {stack.region_name:16} {stack.status:16} {result}", [
        f"{place}: {one}" for one in problems
    ]


def skip_unknown(tests: dict[str, Any], chosen: str, root: Path) -> None:
    """Remove the tests of templates that the embedded AWS cannot create.

    A line is printed about each that was chosen.
    """
    for name, test in list(tests.items()):
        if NOT_EMBEDDED in (root / test.template).read_text(encoding="utf-8"):
            del tests[name]
            if chosen in ("ALL", name):
                print(f"{name:26} skipped: the embedded AWS has no {NOT_EMBEDDED}", flush=True)


def run(test: Any, regions: list[str], output: Path) -> Iterator[str]:
    """Run a taskcat CFNTest with all that is looked at besides; yield the problems."""
    from taskcat.exceptions import TaskCatException

    before, trouble, things, stacks = leftovers.inventory(regions), "", [], []
    try:
        with test as stacks, ThreadPoolExecutor(8) as pool:
            test.report(str(output))
            for line, problems in pool.map(
                look, sorted(stacks, key=lambda one: (one.test_name, one.region_name))
            ):
                print(line, flush=True)
                yield from problems
            started = [stack for stack in stacks if not stack.launch_exception]
            things = [one for found in pool.map(leftovers.kept, started) for one in found]
    except (
        TaskCatException
    ) as error:  # raised, too, when it has deleted stacks that failed: they are told of above
        trouble = str(error)
    if not stacks:
        yield (
            trouble
            or f"no test of .taskcat.yml to run (tests: {test.test_names}, Regions: {test.regions})"
        )
    for stack in stacks:
        yield from (
            f"{stack.test_name}, {stack.region_name}: {one}" for one in deletion_problems(stack)
        )
    kept = sum(map(leftovers.remove, things))
    for region, kind, name in sorted(leftovers.inventory(regions) - before):
        yield f"{region}: left behind: {kind} {name}"
    if stacks:
        print(
            f"{len(stacks)} stacks created and deleted, "
            f"and {kept} buckets and tables that their templates keep; "
            f"see {output / 'index.html'}"
        )


def main() -> int:
    """0: everything was created, delivered and deleted; 1: the problems are on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test-names", default="ALL")
    parser.add_argument("--regions", default="ALL")
    parser.add_argument("--project-root", type=Path, default=Path.cwd())
    options = parser.parse_args()
    if not os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://127.0.0.1:"):
        parser.error("AWS_ENDPOINT_URL must be the embedded AWS: this run makes and deletes things")

    import workarounds
    from taskcat.testing import CFNTest

    workarounds.apply()
    output = options.project_root / "taskcat_outputs"
    shutil.rmtree(output, ignore_errors=True)  # logs of earlier runs would pile up in it
    test = workarounds.configure(CFNTest.from_file(project_root=str(options.project_root)))
    test.test_names, test.regions = options.test_names, options.regions
    tests = test.config.config.tests
    skip_unknown(tests, options.test_names, options.project_root)
    regions = sorted({region for one in tests.values() for region in one.regions})
    problems = []
    try:
        problems.extend(run(test, regions, output))
    except Exception as error:  # noqa: BLE001 - whatever taskcat raises, what was found before it is told
        problems.append(f"{type(error).__name__}: {error}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
