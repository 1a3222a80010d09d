"""``make demo``."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import click

from eventstacks.cli import _stacks
from eventstacks.cli._options import Number, env_option, yes_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.aws import Aws
    from eventstacks.cloudformation.deployment import Result
    from eventstacks.demo import Act, Delivery
    from eventstacks.environment import Environment

WAIT_HERE, WAIT_AWS = 30.0, 1200.0  # CloudTrail may take a quarter of an hour
SHOWN = 110  # characters of a message, but on a terminal no more than fit
TELLING = (
    "eventName",
    "requestParameters",
    "EventID",
    "SourceIdentifier",
    "Message",
)  # of an event of AWS's own


@click.command()
@env_option
@yes_option
@click.option("--keep", is_flag=True, help="Leave the stacks (and the embedded AWS) running.")
@click.option(
    "--wait", type=Number(min=0), help="Seconds to wait for a delivery.  [default: 30; on AWS 1200]"
)
def command(env: str, yes: bool, keep: bool, wait: float | None) -> int:
    """Deploy the stacks of an environment a second time, make events happen, and show where they arrive.

    Everything is named demo-… and is deleted at the end, after Ctrl-C, too (a second one leaves it, and says what).
    Exits with 0 only if every expected delivery was seen. With ENV=local nothing is needed but this checkout; on an
    account it asks first.

    \b
    Examples:
      eventstacks demo
      eventstacks demo --keep
      eventstacks demo --env dev
    """
    from eventstacks import environment
    from eventstacks.aws import Aws
    from eventstacks.demo import PREFIX
    from eventstacks.local import server

    chosen = environment.load(env).prefixed(PREFIX)
    is_embedded = chosen.endpoint == environment.EMBEDDED
    question = (
        f"This deploys {len(chosen.stacks)} stacks in {', '.join(_regions(chosen))} of account {chosen.account},\n"
        "and creates a small PostgreSQL database in each region to take a snapshot of (minutes, and a few cents).\n"
        "Everything is deleted at the end. Go on?"
    )
    if not chosen.endpoint and not _stacks.confirm(question, chosen, yes=yes):
        click.echo("Nothing was changed.", err=True)
        return 1
    was_running = is_embedded and server.status() is not None
    try:
        if wait is None:
            wait = WAIT_HERE if chosen.endpoint else WAIT_AWS
        seen = _demonstrate(
            chosen,
            Aws(chosen, server.start),
            keep=keep,
            wait=wait,
            stays=was_running or not is_embedded,
        )
    finally:
        if is_embedded and not keep and not was_running:
            server.stop()
    return 0 if seen else 1


def _demonstrate(
    environment: Environment, aws: Aws, *, keep: bool, wait: float, stays: bool
) -> bool:
    """``stays``: what is not deleted outlives the command, as the embedded AWS does that was running before."""
    import subprocess

    from eventstacks import demo, rendering
    from eventstacks.cloudformation import deployment
    from eventstacks.local import server
    from eventstacks.parameter_checks import check_parameters

    run, begun = demo.new_run(), time.monotonic()
    account = aws.guard()
    running = server.status() if environment.endpoint == "embedded" else None
    _step(
        "Embedded AWS" if running else "AWS",
        f"{running.url}" if running else f"account {account}",
        begun,
    )
    begun = time.monotonic()
    templates = rendering.render_all()
    check_parameters(environment, templates)
    _step("Rendered", f"{len(templates)} templates into {rendering.BUILD}/", begun)
    begun = time.monotonic()
    lint = subprocess.run(
        [sys.executable, "-m", "eventstacks", "lint"], capture_output=True, text=True, check=False
    )
    if lint.returncode:
        click.echo(lint.stdout + lint.stderr, err=True)
        return False
    _step("Linted", lint.stderr.strip().splitlines()[-1], begun)
    begun = time.monotonic()
    results: list[Result] = []
    acts: list[Act] = []
    try:
        results = deployment.deploy(aws, templates, environment.choose())
        failed = [one for one in results if not one.ok]
        regions = _regions(environment)
        _step("Deployed", f"{len(results)} stacks in {', '.join(regions)}", begun)
        if not failed:
            acts = demo.play(aws, regions, run, wait)
            for region in regions:
                _show(region, [act for act in acts if act.region == region])
        for one in failed:
            click.echo(f"Error: {one.problem}", err=True)
    except KeyboardInterrupt:
        if not keep:
            click.echo(
                "\nInterrupted: what was made is deleted now. Ctrl-C again leaves it.", err=True
            )
        raise
    finally:
        if keep:
            _tell_what_stays(environment, run, results)
        else:
            _delete(aws, run, stays=stays)
    expected = [one for act in acts for one in act.deliveries]
    missing = [one for one in expected if one.after is None]
    memory = f", embedded AWS {running.memory / 1e6:.0f} MB" if running else ""
    if missing or failed or not expected:
        click.echo(
            f"Error: {len(missing)} of {len(expected)} expected deliveries were not seen{memory}",
            err=True,
        )
        return False
    click.secho(f"All {len(expected)} expected deliveries were seen{memory}.", fg="green")
    if not keep:
        click.echo(f"Go on: make demo KEEP=1, make deploy ENV={environment.name}, make help")
    return True


def _regions(environment: Environment) -> list[str]:
    """Where there is a stack; a stack may have a region that is not among the environment's."""
    return list(dict.fromkeys(ref.region for ref in environment.choose()))


def _delete(aws: Aws, run: str, *, stays: bool) -> None:
    """All that the run has made. Ctrl-C ends it, after saying what is left and how it goes."""
    from eventstacks import demo
    from eventstacks.aws import AWS_ERRORS

    begun = time.monotonic()
    try:
        try:
            demo.remove_snapshots(aws, _regions(aws.environment), run)
        except AWS_ERRORS as error:  # the stacks are to go in any case
            click.echo(
                f"Error: a database or a snapshot demo-{run} stays, delete it by hand: {error}",
                err=True,
            )
        count = _remove(aws)
        click.echo()
        _step("Deleted", f"{count} stacks, what they held, databases and snapshots", begun)
    except KeyboardInterrupt:
        if stays:
            _tell_what_stays(aws.environment, run, ())
        raise


def _remove(aws: Aws) -> int:
    """Deletes the stacks and the buckets that they keep; gives how many stacks there were."""
    from eventstacks import demo
    from eventstacks.cloudformation import deletion

    refs = aws.environment.choose()
    surveys = deletion.survey(aws, refs)
    ended = deletion.delete(aws, surveys, refs=refs, empty_buckets=True)
    for one in surveys:
        demo.remove_buckets(aws, one.ref.region, one.retained)
    for result in ended:
        if not result.ok:
            click.echo(f"Error: {result.problem}", err=True)
    return sum(one.stack is not None for one in surveys)


def _show(region: str, acts: list[Act]) -> None:
    click.secho(f"\n{region}", bold=True)
    for act in acts:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(act.words) + 2
        click.echo(
            textwrap.fill(
                act.words,
                width,
                initial_indent="  ",
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
        for one in act.deliveries:
            _show_delivery(one)


def _show_delivery(one: Delivery) -> None:
    mark, colour = ("✓", "green") if one.after is not None else ("✗", "red")
    after = (
        f"after {one.after:.2f} s"
        if one.after is not None
        else f"{len(one.messages)} of {one.count} seen"
    )
    click.secho(f"  {mark} {one.group:<58} {after}", fg=colour)
    # On a terminal there are six spaces before it, and a dot after it.
    shown = shutil.get_terminal_size().columns - 7 if sys.stdout.isatty() else SHOWN
    for message in map(summarize, one.messages):
        click.echo(f"      {message[:shown]}{'…' if len(message) > shown else ''}")


def _tell_what_stays(environment: Environment, run: str, results: Sequence[Result]) -> None:
    """The stacks, with their states where these are known: an interrupted run has seen no result."""
    known = {one.ref: one.status for one in results}
    click.echo(
        "\nWhat stays:" if known else "\nWhat stays, as far as it was made and not yet deleted:"
    )
    for ref in environment.choose():
        click.echo(f"  {ref.region}  {ref.stack_name}  {known.get(ref, '')}".rstrip())
    click.echo(f"  in each region a database and a snapshot demo-{run}: delete them by hand")
    look = "make local-status, " if environment.endpoint == "embedded" else ""
    click.echo(f"Go on: {look}make demo ENV={environment.name} (deletes the stacks again)")


def summarize(message: str) -> str:
    """What a person wants to see of a log message: an event's type and detail, a function's own words."""
    try:
        event = json.loads(message)
    except ValueError:
        return message.rsplit("\t", 1)[-1]
    detail = {key: event["detail"][key] for key in TELLING if key in event["detail"]} or event[
        "detail"
    ]
    return f"{event['detail-type']} {json.dumps(detail)}"


def _step(what: str, words: str, begun: float) -> None:
    click.echo(f"{what:<13} {words:<57} {time.monotonic() - begun:5.1f} s")  # 79 columns
