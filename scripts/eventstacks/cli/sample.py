"""``make sample``."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("kind", required=False)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change a field; VALUE is JSON, or text.",
)
@click.option("--list", "as_list", is_flag=True, help="List the kinds.")
@click.option("--line", is_flag=True, help="On one line, as NDJSON.")
def command(kind: str | None, changes: tuple[str, ...], as_list: bool, line: bool) -> None:
    """Print a sample event of a kind that the stacks react to, as EventBridge delivers it.

    What repeats a changed field elsewhere (account, region, a bucket's ARN) follows it.

    \b
    Examples:
      eventstacks sample --list
      eventstacks sample s3-object-created --set detail.bucket.name=my-bucket
      eventstacks sample order-placed --line | eventstacks send --stack custom-event-bus -
    """
    from eventstacks.bus import samples

    if as_list:
        for name, event in samples.kinds().items():
            print(f"{name:<44} {event['source']:<17} {event['detail-type']}")
        return
    if not kind:
        raise click.UsageError("Which kind? --list shows them.")
    if wrong := [one for one in changes if "=" not in one]:
        raise click.UsageError(f"--set {wrong[0]}: write FIELD=VALUE.")
    pairs = [one.partition("=") for one in changes]
    try:
        event = samples.make(kind, {field: _value(text) for field, _, text in pairs})
        print(json.dumps(event, indent=None if line else 2, ensure_ascii=False))
    except RecursionError:
        raise click.UsageError("--set: a value is nested too deeply.") from None


def _value(text: str) -> object:
    if text.isdigit() and len(text) == 12:  # an account id is text in every event
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
