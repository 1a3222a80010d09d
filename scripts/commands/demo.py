"""``make demo``."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from scripts.commands._options import env_option, yes_option

if TYPE_CHECKING:
    from scripts.aws import Aws
    from scripts.cloudformation.deployment import Result
    from scripts.demo import Act, Delivery
    from scripts.environment import Environment

WAIT_HERE, WAIT_AWS = 30.0, 1200.0  # CloudTrail may take a quarter of an hour
SHOWN = 110  # characters of a message
TELLING = ("eventName", "requestParameters", "EventID", "SourceIdentifier", "Message")  # of an event of AWS's own


@click.command()
@env_option
@yes_option
@click.option("--keep", is_flag=True, help="Leave the stacks (and the embedded AWS) running.")
@click.option("--wait", type=float, help="Seconds to wait for a delivery.  [default: 30; on AWS 1200]")
def command(env: str, yes: bool, keep: bool, wait: float | None) -> int:
    """Deploy the stacks of an environment a second time, make events happen, and show where they arrive.

    Everything is named demo-… and is deleted at the end. Exits with 0 only if every expected delivery was seen. With
    ENV=local nothing is needed but this checkout; on an account it asks first.

    \b
    Examples:
      python -m scripts demo
      python -m scripts demo --keep
      python -m scripts demo --env dev
    """
    from scripts import environment
    from scripts.aws import Aws
    from scripts.demo import PREFIX
    from scripts.local_aws import server

    chosen = environment.load(env).prefixed(PREFIX)
    is_embedded = chosen.endpoint == environment.EMBEDDED
    if not (chosen.endpoint or yes):
        click.confirm(
            f"This deploys {len(chosen.stacks)} stacks in {', '.join(chosen.regions)} of account {chosen.account},\n"
            "and creates a small PostgreSQL database in each region to take a snapshot of (minutes, and a few cents).\n"
            "Everything is deleted at the end. Go on?", abort=True, err=True,
        )  # fmt: skip
    was_running = is_embedded and server.status() is not None
    try:
        wait = wait or (WAIT_HERE if chosen.endpoint else WAIT_AWS)
        seen = _demonstrate(chosen, Aws(chosen), keep=keep, wait=wait)
    finally:
        if is_embedded and not keep and not was_running:
            server.stop()
    return 0 if seen else 1


def _demonstrate(environment: Environment, aws: Aws, *, keep: bool, wait: float) -> bool:
    import subprocess
    from concurrent.futures import ThreadPoolExecutor

    from scripts import demo, rendering
    from scripts.environment import check_parameters
    from scripts.local_aws import server

    run, begun = demo.new_run(), time.monotonic()
    account = aws.guard()
    running = server.status() if environment.endpoint == "embedded" else None
    _step("Embedded AWS" if running else "AWS", f"{running.url}" if running else f"account {account}", begun)
    begun = time.monotonic()
    templates = rendering.render_all()
    check_parameters(environment, templates)
    _step("Rendered", f"{len(templates)} templates into {rendering.BUILD}/", begun)
    begun = time.monotonic()
    lint = subprocess.run([sys.executable, "-m", "scripts", "lint"], capture_output=True, text=True, check=False)
    if lint.returncode:
        click.echo(lint.stdout + lint.stderr, err=True)
        return False
    _step("Linted", lint.stderr.strip().splitlines()[-1], begun)
    begun = time.monotonic()
    results = _deploy(aws, templates)
    failed = [one for one in results if not one.ok]
    regions = sorted({one.place.region for one in results}, key=environment.regions.index)
    _step("Deployed", f"{len(results)} stacks in {', '.join(regions)}", begun)
    acts: list[Act] = []
    try:
        if not failed:
            with ThreadPoolExecutor(max_workers=len(regions)) as pool:
                for done in pool.map(lambda region: _play(aws, region, run, wait), regions):
                    acts += done
            for region in regions:
                _show(region, [act for act in acts if act.region == region])
        for one in failed:
            click.echo(f"Error: {one.problem}", err=True)
    finally:
        if keep:
            _tell_what_stays(environment, results)
        else:
            begun = time.monotonic()
            demo.remove_snapshots(aws, regions, run)
            _remove(aws, results)
            _step("\nDeleted", f"{len(results)} stacks, what they held, databases and snapshots", begun)
    expected = [one for act in acts for one in act.deliveries]
    missing = [one for one in expected if one.after is None]
    memory = f", embedded AWS {running.memory / 1e6:.0f} MB" if running else ""
    if missing or failed or not expected:
        click.echo(f"Error: {len(missing)} of {len(expected)} expected deliveries were not seen{memory}", err=True)
        return False
    click.secho(f"All {len(expected)} expected deliveries were seen{memory}.", fg="green" if _colours() else None)
    if not keep:
        click.echo(f"Go on: make demo KEEP=1, make deploy ENV={environment.name}, make help")
    return True


def _play(aws: Aws, region: str, run: str, wait: float) -> list[Act]:
    from scripts import demo

    return [demo.watch(aws, act, wait) for act in demo.perform(aws, region, run)]


def _deploy(aws: Aws, templates: dict[str, dict[str, Any]]) -> list[Result]:
    from scripts.cloudformation.deployment import deploy

    return deploy(aws, templates, aws.environment.choose())


def _remove(aws: Aws, results: list[Result]) -> None:
    from scripts import demo
    from scripts.cloudformation import deletion

    pairs = aws.environment.choose()
    surveys = deletion.survey(aws, pairs)
    ended = deletion.delete(aws, surveys, pairs=pairs, empty_buckets=True)
    for one in results:
        demo.remove_buckets(aws, one.place.region, one.outputs)
    for one in ended:
        if not one.ok:
            click.echo(f"Error: {one.problem}", err=True)


def _show(region: str, acts: list[Act]) -> None:
    click.secho(f"\n{region}", bold=_colours())
    for act in acts:
        click.echo(f"  {act.words}")
        for one in act.deliveries:
            _show_delivery(one)


def _show_delivery(one: Delivery) -> None:
    mark, colour = ("✓", "green") if one.after is not None else ("✗", "red")
    after = f"after {one.after:.2f} s" if one.after is not None else f"{len(one.messages)} of {one.count} seen"
    click.secho(f"  {mark} {one.group:<58} {after}", fg=colour if _colours() else None)
    for message in map(summarize, one.messages):
        click.echo(f"      {message[:SHOWN]}{'…' if len(message) > SHOWN else ''}")


def _tell_what_stays(environment: Environment, results: list[Result]) -> None:
    click.echo("\nWhat stays:")
    for one in results:
        click.echo(f"  {one.place.region}  {one.place.stack_name}  {one.status}")
    click.echo(f"Go on: make local-status, make demo ENV={environment.name} (which deletes it again)")


def summarize(message: str) -> str:
    """What a person wants to see of a log message: an event's type and detail, a function's own words."""
    try:
        event = json.loads(message)
    except ValueError:
        return message.rsplit("\t", 1)[-1]
    detail = {key: event["detail"][key] for key in TELLING if key in event["detail"]} or event["detail"]
    return f"{event['detail-type']} {json.dumps(detail)}"


def _step(what: str, words: str, begun: float) -> None:
    click.echo(f"{what:<13} {words:<76} {time.monotonic() - begun:5.1f} s")


def _colours() -> bool:
    import os

    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
