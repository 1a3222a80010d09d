"""Copy RDS snapshots to another Region: by events, and by a schedule for events that never came.

The name of a copy derives from its source, so that a second copy is an error that means success. A
snapshot that must wait (quota, not available yet) stays in the queue.
"""

import hashlib
import json
import logging
import os
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

LOGGER = logging.getLogger(__name__)
LOGGER.setLevel(logging.INFO)
OWNER, SOURCE, CREATED, ANNOUNCED = "copied-by", "source-arn", "source-created", "copy-announced"
# Part of an ARN: the names in parameters and answers of the API, and in names of boto3.
KINDS = {
    "snapshot": ("DBSnapshot", "DBInstance", "db_snapshot"),
    "cluster-snapshot": ("DBClusterSnapshot", "DBCluster", "db_cluster_snapshot"),
}
OTHER_ENGINES = ("neptune", "docdb", "custom-")  # same API and event IDs, other or no copies
# All other errors of the API end by themselves or when a person acts; the message waits.
# Both quotas (snapshots, copies in progress) are SnapshotQuotaExceeded (RDS API reference,
# CopyDBSnapshot).
EXISTING = {"DBSnapshotAlreadyExists", "DBClusterSnapshotAlreadyExistsFault"}
PERMANENT = {"DBSnapshotNotFound", "DBClusterSnapshotNotFoundFault", "KMSKeyNotAccessibleFault"}
PERMANENT |= {"InvalidParameterCombination", "InvalidParameterValue", "PermanentError"}
ATTEMPTS = 5  # of a message that fails by a missing permission or a bug
COPIES_AT_ONCE = 20  # RDS quota, for each destination Region


@dataclass(frozen=True, slots=True)
class Settings:
    """What to copy and how long to keep it: environment variables of these names in upper case."""

    owner: str  # Region and name of the stack: value of the tag copied-by
    aws_region: str
    destination_region: str
    kms_key: str
    types: tuple[str, ...]
    engines: tuple[str, ...]  # prefixes; none: all
    database_prefix: str
    tag_key: str
    tag_value: str
    retention_days: int  # 0: indefinitely
    minimum_copies: int
    backfill_days: int
    deadline_hours: int


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Return the settings of the function."""
    values: dict[str, Any] = {}
    for field in fields(Settings):
        text = environment[field.name.upper()]
        value = text if field.type is str else tuple(filter(None, text.split(",")))
        values[field.name] = int(text) if field.type is int else value
    return Settings(**values)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of an instance or a cluster, in either Region."""

    kind: str
    arn: str
    name: str
    database: str
    engine: str
    type: str
    status: str
    created: datetime
    encrypted: bool
    tags: dict[str, str]

    @property
    def source_created(self) -> datetime:
        """When the source of this copy was created."""
        return datetime.fromisoformat(self.tags[CREATED]) if CREATED in self.tags else self.created


@dataclass(frozen=True, slots=True)
class Plan:
    """What the schedule has to do."""

    missing: list[Snapshot]
    overdue: list[Snapshot]
    deleted: list[Snapshot]  # expired and failed copies
    announced: list[Snapshot]
    in_progress: int


class PermanentError(Exception):
    """Retrying cannot help; the message goes to the dead-letter queue."""


def snapshot_of(answer: dict[str, Any], kind: str) -> Snapshot:
    """Return the snapshot that RDS describes."""
    part, database, _ = KINDS[kind]
    created = answer.get("SnapshotCreateTime") or datetime.now(UTC)
    return Snapshot(
        kind=kind,
        arn=answer[f"{part}Arn"],
        name=answer[f"{part}Identifier"],
        database=answer.get(f"{database}Identifier", ""),
        engine=answer.get("Engine", ""),
        type=answer.get("SnapshotType", ""),
        status=answer.get("Status", ""),
        created=created.replace(microsecond=0),
        encrypted=bool(answer.get("Encrypted") or answer.get("StorageEncrypted")),
        tags={one["Key"]: one.get("Value", "") for one in answer.get("TagList") or ()},
    )


def reason_to_skip(snapshot: Snapshot, settings: Settings, now: datetime) -> str:
    """Return why not to copy a snapshot, or ''."""
    tag = snapshot.tags.get(settings.tag_key)
    lifetime = timedelta(days=settings.retention_days or 36500)
    rules = (
        # A twin of this stack in the other Region would send copies back.
        (OWNER in snapshot.tags or snapshot.name.startswith("copy-"), "it is a copy"),
        (snapshot.type not in settings.types, f"its type is {snapshot.type}"),
        (snapshot.engine.startswith(OTHER_ENGINES), f"its engine is {snapshot.engine}"),
        (not snapshot.engine.startswith(settings.engines or ("",)), "its engine is not chosen"),
        (not snapshot.database.startswith(settings.database_prefix), "its database is not chosen"),
        (bool(settings.tag_key) and tag is None, f"it has no tag {settings.tag_key}"),
        (bool(settings.tag_value) and tag != settings.tag_value, "its tag has another value"),
        (now - snapshot.created > lifetime, "it is older than the retention of copies"),
    )
    return next((reason for applies, reason in rules if applies), "")


def copy_name(snapshot: Snapshot, owner: str) -> str:
    """Return the name of the copy: the same for the same snapshot.

    It has at most 63 characters, as RDS allows for clusters. The hash contains the time of
    creation, because the name of a deleted snapshot can be used again.
    """
    key = f"{snapshot.arn}|{snapshot.created.isoformat(timespec='seconds')}|{owner}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:10]
    base = re.sub(r"[^a-z0-9]+", "-", snapshot.name.lower().removeprefix("rds:")).strip("-")
    return f"copy-{base[:46].strip('-')}-{digest}"


def make_plan(
    sources: Iterable[Snapshot], copies: Iterable[Snapshot], settings: Settings, now: datetime
) -> Plan:
    """Decide what to copy, delete and announce. ``copies``: manual snapshots in the destination."""
    own = {one.name: one for one in copies if one.tags.get(OWNER) == settings.owner}
    backfill = timedelta(settings.backfill_days)
    days = min(settings.backfill_days, settings.retention_days or 36500)
    # While the copy is still wanted.
    deadline = min(timedelta(hours=settings.deadline_hours), timedelta(days * 0.75))
    missing, overdue, has_sources = [], [], False
    for one in sources:
        has_sources = True
        if one.status != "available" or reason_to_skip(one, settings, now):
            continue
        copy, age = own.get(copy_name(one, settings.owner)), now - one.created
        if copy is None and age > backfill:
            continue
        if copy is None or copy.status == "failed":
            missing.append(one)
        if age > deadline and (copy is None or copy.status != "available"):
            overdue.append(one)
    available = [one for one in own.values() if one.status == "available"]
    # An empty list of sources may be a wrong Region or permission: nothing is deleted then.
    expired = _expired(available, settings, now) if has_sources else []
    return Plan(
        missing=missing,
        overdue=overdue,
        deleted=[one for one in own.values() if one.status == "failed"] + expired,
        announced=[one for one in available if ANNOUNCED not in one.tags and one not in expired],
        in_progress=sum(one.status not in ("available", "failed") for one in own.values()),
    )


def _expired(available: list[Snapshot], settings: Settings, now: datetime) -> list[Snapshot]:
    """Return available copies past the retention, without the newest ones of each database."""
    databases = defaultdict(list)
    for one in sorted(available, key=lambda copy: copy.source_created):
        databases[one.kind, one.database].append(one)
    limit, kept = now - timedelta(settings.retention_days or 36500), settings.minimum_copies
    return [
        one for group in databases.values() for one in group[:-kept] if one.source_created < limit
    ]


def arn_of(body: str, region: str) -> str:
    """Return the ARN of the snapshot of this Region that an event of RDS is about."""
    try:
        arn = str(json.loads(body)["detail"]["SourceArn"])
    except (ValueError, LookupError, TypeError) as error:
        raise PermanentError(f"not an event of a snapshot: {type(error).__name__}") from error
    if not re.match(rf"arn:[^:]+:rds:{region}:\d+:({'|'.join(KINDS)}):.", arn):
        raise PermanentError(f"not the ARN of a snapshot in {region}: {arn}")
    return arn


class Regions:
    """RDS in both Regions, and the default bus of the destination Region."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.source = boto3.client("rds", region_name=settings.aws_region)
        self.destination = boto3.client("rds", region_name=settings.destination_region)
        self.events = boto3.client("events", region_name=settings.destination_region)

    def list(self, client: Any, types: Iterable[str]) -> Iterator[Snapshot]:
        """Yield all snapshots of these types, page by page."""
        for kind, (part, _, name) in KINDS.items():
            for one in types:
                pages = client.get_paginator(f"describe_{name}s").paginate(
                    SnapshotType=one, PaginationConfig={"PageSize": 100}
                )
                for page in pages:
                    yield from (snapshot_of(answer, kind) for answer in page[f"{part}s"])

    def describe(self, arn: str) -> Snapshot:
        """Return one snapshot of the source Region."""
        kind, identifier = arn.split(":", 6)[5:]
        part, _, name = KINDS[kind]
        answer = getattr(self.source, f"describe_{name}s")(**{f"{part}Identifier": identifier})
        if not answer[f"{part}s"]:
            raise PermanentError(f"{arn} does not exist")
        return snapshot_of(answer[f"{part}s"][0], kind)

    def copy(self, snapshot: Snapshot) -> str:
        """Start the copy, unless it exists. Return its name."""
        settings, (part, _, name) = self.settings, KINDS[snapshot.kind]
        target = copy_name(snapshot, settings.owner)
        tags = {key: value for key, value in snapshot.tags.items() if not key.startswith("aws:")}
        tags = dict(list(tags.items())[:40]) | {
            OWNER: settings.owner,
            SOURCE: snapshot.arn,
            CREATED: snapshot.created.isoformat(),
        }
        request: dict[str, Any] = {
            f"Source{part}Identifier": snapshot.arn,
            f"Target{part}Identifier": target,
            "SourceRegion": settings.aws_region,
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        # RDS refuses a key for a cluster snapshot that is not encrypted.
        if snapshot.encrypted or (settings.kms_key and snapshot.kind == "snapshot"):
            request["KmsKeyId"] = settings.kms_key or "alias/aws/rds"
        try:
            getattr(self.destination, f"copy_{name}")(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] not in EXISTING:
                raise
        return target

    def delete(self, copy: Snapshot) -> None:
        """Delete a copy in the destination Region."""
        part, _, name = KINDS[copy.kind]
        getattr(self.destination, f"delete_{name}")(**{f"{part}Identifier": copy.name})

    def announce(self, copy: Snapshot) -> None:
        """Put an event on the bus, then mark the copy: at least once."""
        detail = {
            "copyArn": copy.arn,
            "sourceArn": copy.tags.get(SOURCE, ""),
            "sourceCreated": copy.tags.get(CREATED, ""),
            "database": copy.database,
        }
        entry = {
            "Source": "rds-snapshot-copy",
            "DetailType": "RDS Snapshot Copy Available",
            "Resources": [copy.arn],
            "Detail": json.dumps(detail),
        }
        answer = self.events.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            raise RuntimeError(answer["Entries"][0].get("ErrorMessage", "PutEvents failed"))
        mark = {"Key": ANNOUNCED, "Value": datetime.now(UTC).isoformat(timespec="seconds")}
        self.destination.add_tags_to_resource(ResourceName=copy.arn, Tags=[mark])


def copy_one(body: str, regions: Regions, now: datetime) -> str:
    """Copy the snapshot of a message. Return what was done; raise what prevents it."""
    arn = arn_of(body, regions.settings.aws_region)
    snapshot = regions.describe(arn)
    if why := reason_to_skip(snapshot, regions.settings, now):
        return f"skipped: {why}"
    if snapshot.status == "failed":
        raise PermanentError(f"{arn} failed")
    if snapshot.status != "available":
        raise TimeoutError(f"{arn} is {snapshot.status}")
    return f"copying to {regions.copy(snapshot)}"


def copy_messages(records: list[dict[str, Any]], regions: Regions, sqs: Any) -> dict[str, Any]:
    """Handle messages of the queue; those that must wait fail, with a growing delay."""
    failures = []
    for record in records:
        context = {"messageId": record["messageId"], "body": record["body"][:2000]}
        try:
            LOGGER.info(copy_one(record["body"], regions, datetime.now(UTC)), extra=context)
        except Exception as error:  # one message must not fail the batch
            LOGGER.warning("not copied: %r", error, extra=context)
            try:
                if _gives_up(record, error, sqs):
                    continue
            except (ClientError, BotoCoreError):  # the visibility timeout of the queue applies
                LOGGER.exception("cannot use the queues", extra=context)
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}


def _gives_up(record: dict[str, Any], error: Exception, sqs: Any) -> bool:
    """Move the message to the dead-letter queue with the reason, or delay it and return False."""
    receives = int(record["attributes"]["ApproximateReceiveCount"])
    code = type(error).__name__
    if isinstance(error, ClientError):
        code = str(error.response["Error"]["Code"])
    is_of_aws = isinstance(error, (ClientError, BotoCoreError, TimeoutError))
    is_bug = code.startswith("AccessDenied") or not is_of_aws
    if code in PERMANENT or (is_bug and receives >= ATTEMPTS):
        reason = {"ERROR_CODE": code, "ERROR_MESSAGE": repr(error)[:1000]}
        sqs.send_message(
            QueueUrl=os.environ["DEAD_LETTER_QUEUE_URL"],
            MessageBody=record["body"],
            MessageAttributes={
                key: {"DataType": "String", "StringValue": text} for key, text in reason.items()
            },
        )
        return True
    sqs.change_message_visibility(
        QueueUrl=os.environ["QUEUE_URL"],
        ReceiptHandle=record["receiptHandle"],
        # 1 minute, then twice as long each time, at most 30 minutes.
        VisibilityTimeout=min(60 << min(receives - 1, 10), 1800),
    )
    return False


def reconcile(regions: Regions, sqs: Any, now: datetime) -> dict[str, int]:
    """Queue missing copies, delete expired ones, announce finished ones; return the metrics."""
    settings = regions.settings
    copies = list(regions.list(regions.destination, ["manual"]))
    plan = make_plan(regions.list(regions.source, settings.types), copies, settings, now)
    counts = {
        "CopiesMissing": len(plan.missing),
        "CopiesOverdue": len(plan.overdue),
        "CopiesInProgress": plan.in_progress,
    }
    for act, some in ((regions.delete, plan.deleted), (regions.announce, plan.announced)):
        for one in some[:200]:  # what fits into the timeout
            try:
                act(one)
            except (ClientError, BotoCoreError, RuntimeError):  # the next run tries again
                LOGGER.exception("failed", extra={"snapshot": one.arn})
    # Only what can start now, in any order: snapshots that RDS always rejects hold up no others.
    random.shuffle(plan.missing)
    for one in plan.missing[: max(COPIES_AT_ONCE - plan.in_progress, 0)]:
        body = json.dumps({"detail": {"SourceArn": one.arn}})
        sqs.send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=body)
    for one in plan.overdue[:20]:
        LOGGER.warning("overdue", extra={"snapshot": one.arn})
    # The embedded metric format of CloudWatch.
    metrics = [{"Name": name, "Unit": "Count"} for name in counts]
    directive = {"Namespace": "RdsSnapshotCopy", "Dimensions": [["Stack"]], "Metrics": metrics}
    metadata = {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]}
    print(json.dumps({"_aws": metadata, "Stack": settings.owner.split("/")[1], **counts}))
    return counts


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Handle messages of the queue (Records), or a run of the schedule."""
    regions, sqs = Regions(settings_of(os.environ)), boto3.client("sqs")
    if "Records" in event:
        return copy_messages(event["Records"], regions, sqs)
    return reconcile(regions, sqs, datetime.now(UTC))
