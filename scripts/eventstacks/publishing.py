"""``build/`` in a bucket, and a link for every stack that opens the console's form with its values filled in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from eventstacks.aws import Clock
from eventstacks.cloudformation import bucket, outputs
from eventstacks.cloudformation.parameters import Values
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef
    from eventstacks.rendering import RenderedTemplate

CONSOLES = {  # partition → domain of its console, after the region
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


class PublishingError(ToolError):
    """No console to link to."""


@dataclass(frozen=True)
class Link:
    """The console's form for one stack in one region; ``left_out``: parameter → why the link does not say its value."""

    stack: str
    stack_name: str
    region: str
    url: str
    left_out: Mapping[str, str]


def upload(aws: Aws, templates: Mapping[str, RenderedTemplate]) -> dict[str, str]:
    """Puts ``build/`` into the environment's bucket; gives template → URL, as CloudFormation's TemplateURL takes it.

    The keys begin with a hash of all that is in ``build/``: what was published once does not change under a link.
    Raises BucketError when the environment names no bucket, or one that is not there or not open to us.
    """
    clock = Clock()
    if not (store := bucket.find(aws, clock)):
        raise bucket.BucketError(
            "this environment names no bucket to publish to",
            where=str(aws.environment.path),
            advice="Add 'bucket: <name>' to it; the bucket may be in any region of the partition.",
        )
    files = {name: one.text.encode() for name, one in sorted(templates.items())}
    seal = hashlib.sha256()
    for name, body in files.items():
        seal.update(f"{name} {len(body)}\n".encode() + body)
    folder = seal.hexdigest()[:16]
    return {name: store.put(f"{folder}/{name}.yaml", body, clock) for name, body in files.items()}


def link(
    aws: Aws,
    ref: StackRef,
    template_url: str,
    declared: Mapping[str, Mapping[str, Any]],
    values: Values,
) -> Link:
    """The quick-create link of a stack in a region. ``declared``: the template's ``Parameters``.

    Left out are outputs of stacks that are not deployed, and NoEcho parameters, which the console ignores.
    Source: CloudFormation User Guide, 'Create quick-create links for stacks'. Raises PublishingError for a region
    whose console is not known.
    """
    settings, region = ref.settings, ref.region
    taken, given, left_out = (
        aws.environment.references(ref),
        {"templateURL": template_url, "stackName": settings.stack_name},
        {},
    )
    for name, value in settings.values(region).items():
        if str(declared[name].get("NoEcho", "")).lower() == "true":
            left_out[name] = "it is secret (NoEcho)"
            continue
        try:
            given[f"param_{name}"] = values.output(*taken[name]) if name in taken else str(value)
        except outputs.NoStackError as error:
            left_out[name] = f"{value}: {error.what}"
    form = f"cloudformation/home?region={region}#/stacks/create/review?{urlencode(given, quote_via=quote)}"
    return Link(
        settings.name,
        settings.stack_name,
        region,
        f"https://{region}.{_console(aws, region)}/{form}",
        left_out,
    )


def links(
    aws: Aws, refs: Sequence[StackRef], templates: Mapping[str, RenderedTemplate]
) -> list[Link]:
    """Uploads, and gives a link for each stack and region. Raises PublishingError, BucketError."""
    for ref in refs:
        _console(aws, ref.region)
    urls, values = upload(aws, templates), Values(aws)
    return [
        link(
            aws,
            ref,
            urls[ref.settings.template],
            templates[ref.settings.template].document.get("Parameters") or {},
            values,
        )
        for ref in refs
    ]


def _console(aws: Aws, region: str) -> str:
    partition = aws.client("cloudformation", region).meta.partition
    if partition not in CONSOLES:
        raise PublishingError(
            f"the address of the console of {partition} is not known here",
            where=f"{aws.environment.path}: {region}",
            advice="Upload the files of build/ by hand.",
        )
    return CONSOLES[partition]
