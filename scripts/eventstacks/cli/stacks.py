"""The verbs for stacks: plan, deploy, delete, status, outputs, drift, recover and follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from eventstacks import rendering
from eventstacks.cli import output, stack_view
from eventstacks.cli.options import (
    change_options,
    connect,
    deployment_options,
    read_options,
)
from eventstacks.cloudformation import change_set, inspect, run
from eventstacks.cloudformation import delete as deletion
from eventstacks.cloudformation import deploy as deployment
from eventstacks.cloudformation import outputs as stack_outputs
from eventstacks.cloudformation import recover as recovery
from eventstacks.errors import command_line


@contextmanager
def _operating(
    env: str,
    stack: str | None,
    region: str | None,
    templates: rendering.Templates | None = None,
    *,
    yes: bool = True,
    as_json: bool,
) -> Iterator[tuple[stack_view.Reporter, run.Scope]]:
    """Connect to an environment; yield a live view, and the scope whose progress it shows."""
    connection, refs = connect(env, stack, region, templates)
    reporter = stack_view.Reporter(connection.environment, len(refs), yes=yes, as_json=as_json)
    with reporter.progress:
        yield reporter, run.Scope(connection, refs, reporter)


@click.command()
@read_options
@click.option(
    "--markdown",
    is_flag=True,
    help="A comment for a pull request (Markdown, at most 60,000 bytes).",
)
@deployment_options
def plan(
    env: str, stack: str | None, region: str | None, as_json: bool, markdown: bool, **chosen: Any
) -> int:
    """Show what a deployment would change. Executes nothing and leaves no change set.

    Exits with 3 if there are changes (make always returns 2).

    \b
    Examples:
      eventstacks plan --env local
      eventstacks plan --env dev --markdown > comment.md
    """
    if markdown and as_json:
        raise click.UsageError("--markdown and --json exclude each other.")
    templates, quiet = rendering.Templates(), as_json or markdown
    with _operating(env, stack, region, templates, as_json=quiet) as (_, scope):
        plans = deployment.plan(scope, templates, change_set.Options(**chosen))
    problems = [one.problem for one in plans]
    if as_json:
        documents = [one.document() for one in plans]
        output.print_json(
            [{**one, "resources": output.snake_keys(one["resources"])} for one in documents]
        )
    elif markdown:
        output.echo(stack_view.markdown(env, plans, problems))
    else:
        output.console().print(*stack_view.show(plans), sep="\n")
    if output.print_errors(problems):
        return output.EXIT_FAILED
    return output.EXIT_CHANGES if any(one.changes for one in plans) else 0


@click.command()
@change_options
@deployment_options
def deploy(
    env: str, stack: str | None, region: str | None, yes: bool, as_json: bool, **chosen: Any
) -> int:
    """Create or update stacks: show the changes, confirm, execute them, follow them to the end.

    \b
    Examples:
      eventstacks deploy --env local
      eventstacks deploy --env prod --stack custom-event-bus --region us-east-1 --yes
    """
    templates = rendering.Templates()
    with _operating(env, stack, region, templates, yes=yes, as_json=as_json) as (_, scope):
        results = deployment.deploy(scope, templates, change_set.Options(**chosen))
    return stack_view.summarize(results, as_json=as_json)


@click.command()
@change_options
@click.option("--empty-buckets", is_flag=True, help="Also delete the objects in the buckets.")
def delete(
    env: str,
    stack: str | None,
    region: str | None,
    yes: bool,
    as_json: bool,
    empty_buckets: bool,
) -> int:
    """Delete stacks in reverse dependency order, after showing what is deleted and retained.

    \b
    Example:
      eventstacks delete --env local --stack custom-event-bus
    """
    with _operating(env, stack, region, yes=yes, as_json=as_json) as (reporter, scope):
        previews = deletion.preview(scope)
        deployed = [one for one in previews if one.stack and not one.problem]
        lines = [line for one in deployed for line in stack_view.deletion(one)]
        question = f"Delete {output.counted(len(deployed), 'stack')} of {env}?"
        if deployed:
            reporter.ask(lines, question)
        results = deletion.delete(scope, previews, empty_buckets=empty_buckets)
    return stack_view.summarize(results, as_json=as_json)


@click.command()
@read_options
def status(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """Show what is deployed where, in which state, and what to do about it.

    \b
    Example:
      eventstacks status --env local
    """
    connection, refs = connect(env, stack, region)
    with output.progress("Reading stacks"):
        found = inspect.status(run.Scope(connection, refs))
    rows = [one.document() for one in found]
    keys = ("stack_name", "region", "status", "changed", "drift", "protected")
    output.print_rows(rows, keys, as_json=as_json, note="advice")
    return output.EXIT_FAILED if output.print_errors(one.problem for one in found) else 0


@click.command()
@read_options
def outputs(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """Print stack outputs.

    \b
    Example:
      eventstacks outputs --env local --stack custom-event-bus
    """
    connection, refs = connect(env, stack, region)
    with output.progress("Reading outputs"):
        found = inspect.status(run.Scope(connection, refs))
    if as_json:
        output.print_json([one.ref.document() | {"outputs": one.outputs} for one in found])
    else:
        for one in found:
            output.echo(one.ref, style="bold")
            for name, value in one.outputs.items():
                output.echo(f"  {name:<28} {value}")
    problems = [one.problem for one in found] + [
        stack_outputs.NotDeployedError("the stack is not deployed", one.ref)
        for one in found
        if one.status == "NOT_DEPLOYED"
    ]
    return output.EXIT_FAILED if output.print_errors(problems) else 0


@click.command()
@read_options
def drift(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """Show what was changed outside of CloudFormation, property by property.

    Exits with 3 if there is drift (make always returns 2).

    \b
    Example:
      eventstacks drift --env local
    """
    connection, refs = connect(env, stack, region)
    with output.progress("Detecting drift"):
        found = inspect.drift(run.Scope(connection, refs))
    if as_json:
        output.print_json([output.snake_keys(one.document()) for one in found])
    else:
        for one in found:
            _show_drift(one)
    if output.print_errors(one.problem for one in found):
        return output.EXIT_FAILED
    return output.EXIT_CHANGES if any(one.status == "DRIFTED" for one in found) else 0


def _show_drift(drift: run.Drift) -> None:
    output.echo(f"{drift.ref}: {drift.status}", style=output.state_style(drift.status))
    for resource in drift.resources:
        keys = ("LogicalResourceId", "ResourceType", "StackResourceDriftStatus")
        output.echo("  " + "  ".join(resource[key] for key in keys))
        for one in resource["PropertyDifferences"]:
            path = one["PropertyPath"].strip("/").replace("/", ".")
            values = (one.get(key) or "(none)" for key in ("ExpectedValue", "ActualValue"))
            output.echo(f"      {path}: {' → '.join(values)}")


@click.command()
@change_options
@click.option(
    "--skip",
    multiple=True,
    metavar="ID",
    help="UPDATE_ROLLBACK_FAILED: leave this resource as it is; repeatable.",
)
@click.option(
    "--retain", multiple=True, metavar="ID", help="DELETE_FAILED: keep this resource; repeatable."
)
@click.option("--force", is_flag=True, help="DELETE_FAILED: keep what cannot be deleted.")
def recover(
    env: str, stack: str | None, region: str | None, yes: bool, as_json: bool, **how: Any
) -> int:
    """Recover stacks stuck in a failed state (shows the steps, then asks).

    \b
    Example:
      eventstacks recover --env dev --stack custom-event-bus
    """
    if sum(map(bool, how.values())) > 1:
        raise click.UsageError(
            "--skip, --retain and --force exclude each other: each is for another purpose."
        )
    with _operating(env, stack, region, yes=yes, as_json=as_json) as (reporter, scope):
        steps = recovery.propose(scope, **how)
        lines = [f"{one.ref} {one.description}" for one in steps if one.method]
        if lines:
            reporter.ask(lines, "Carry out these steps?")
        results = recovery.recover(scope, steps)
    if not results:
        output.echo(f"Nothing to recover. See: {command_line('status', env=env)}", err=True)
    return stack_view.summarize(results, as_json=as_json)


@click.command()
@read_options
def follow(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """Watch operations in progress until they end, no matter who started them.

    \b
    Example:
      eventstacks follow --env dev
    """
    with _operating(env, stack, region, as_json=as_json) as (_, scope):
        results = recovery.follow(scope)
    if not results:
        output.echo("No operation is in progress.", err=True)
    return stack_view.summarize(results, as_json=as_json)
