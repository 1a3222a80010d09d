"""RDS, SQS and EventBridge in memory, for the functions that copy snapshots.

They have time, quotas, faults and paging.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError

ACCOUNT = "111122223333"
START = datetime(2026, 11, 1, tzinfo=UTC)
PARTS = {"db_snapshot": "DBSnapshot", "db_cluster_snapshot": "DBClusterSnapshot"}
KINDS = {"db_snapshot": "snapshot", "db_cluster_snapshot": "cluster-snapshot"}


def fault(code, operation="Copy"):
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)


class World:
    """Two Regions and one time.

    ``faults``: error codes that the next copies raise, one for each call.
    """

    def __init__(self, *, quota=20, copying=timedelta(minutes=30)):
        self.now, self.quota, self.copying = START, quota, copying
        self.regions = defaultdict(lambda: {"db_snapshot": {}, "db_cluster_snapshot": {}})
        self.faults, self.calls, self.most_in_progress = [], 0, 0
        self.deleted, self.announced, self.started = [], [], defaultdict(int)
        self.creating = []
        self.queues = {"messages": {}, "dead": [], "number": itertools.count()}

    def client(self, service, region_name=None, **_):
        return {"rds": Rds, "sqs": Sqs, "events": Events}[service](self, region_name)

    def add(self, name, *, region="us-east-1", kind="db_snapshot", database="orders", **more):
        part = PARTS[kind]
        one = {
            f"{part}Identifier": name,
            f"{part}Arn": f"arn:aws:rds:{region}:{ACCOUNT}:{KINDS[kind]}:{name}",
            "DBInstanceIdentifier" if kind == "db_snapshot" else "DBClusterIdentifier": database,
            "Engine": "postgres",
            "SnapshotType": "automated" if name.startswith("rds:") else "manual",
            "Status": "available",
            "SnapshotCreateTime": self.now,
            "TagList": [],
            **more,
        }
        self.regions[region][kind][name] = one
        return one[f"{part}Arn"]

    def copies(self, region="eu-west-1"):
        return [one for kind in self.regions[region].values() for one in kind.values()]

    def in_progress(self):
        self.creating = [one for one in self.creating if one["Status"] == "creating"]
        return len(self.creating)

    def pass_time(self, seconds):
        self.now += timedelta(seconds=seconds)
        for one in self.creating:
            if one["Status"] == "creating" and one["ready"] <= self.now:
                one["Status"] = "available"


class Rds:
    def __init__(self, world, region):
        self.world, self.region = world, region

    def __getattr__(self, name):
        verb, _, rest = name.partition("_")
        kind = rest.removesuffix("s")
        if verb not in ("describe", "copy", "delete") or kind not in PARTS:
            raise AttributeError(name)

        def call(**request):
            self.world.calls += 1
            return getattr(self, f"_{verb}")(kind, PARTS[kind], request)

        return call

    @property
    def here(self):
        return self.world.regions[self.region]

    def get_paginator(self, name):
        rds = self

        class Paginator:
            def paginate(self, *, SnapshotType, PaginationConfig):  # noqa: N803 - boto3's names
                kind = name.removeprefix("describe_").removesuffix("s")
                found = [
                    one for one in rds.here[kind].values() if one["SnapshotType"] == SnapshotType
                ]
                size = PaginationConfig["PageSize"]
                assert size <= 100  # MaxRecords
                for start in range(0, max(len(found), 1), size):
                    rds.world.calls += 1
                    yield {f"{PARTS[kind]}s": found[start : start + size]}

        return Paginator()

    def _describe(self, kind, part, request):
        name = request[f"{part}Identifier"]
        if name not in self.here[kind]:
            raise fault("DBSnapshotNotFound" if part == "DBSnapshot" else f"{part}NotFoundFault")
        return {f"{part}s": [self.here[kind][name]]}

    def _copy(self, kind, part, request):
        world = self.world
        if world.faults:
            code = world.faults.pop()
            if code:
                raise fault(code)
        arn, name = request[f"Source{part}Identifier"], request[f"Target{part}Identifier"]
        source = world.regions[arn.split(":")[3]][kind].get(arn.split(":", 6)[6])
        if source is None:
            raise fault("DBSnapshotNotFound" if part == "DBSnapshot" else f"{part}NotFoundFault")
        if name in self.here[kind]:
            code = "DBSnapshotAlreadyExists"
            raise fault(code if part == "DBSnapshot" else f"{part}AlreadyExistsFault")
        encrypted = source.get("StorageEncrypted") or kind == "db_snapshot"
        if "KmsKeyId" in request and not encrypted:
            raise fault("InvalidParameterCombination")
        if world.in_progress() >= world.quota:
            raise fault("SnapshotQuotaExceeded")
        assert len(name) <= 63
        assert "--" not in name
        world.started[name] += 1
        self.here[kind][name] = {
            **source,
            f"{part}Identifier": name,
            f"{part}Arn": f"arn:aws:rds:{self.region}:{ACCOUNT}:{KINDS[kind]}:{name}",
            "SnapshotType": "manual",
            "Status": "creating",
            "SnapshotCreateTime": world.now,
            "TagList": list(request["Tags"]),
            "KmsKeyId": request.get("KmsKeyId"),
            "ready": world.now + world.copying,
        }
        world.creating.append(self.here[kind][name])
        world.most_in_progress = max(world.most_in_progress, world.in_progress())

    def _delete(self, kind, part, request):
        self.world.deleted.append(self.here[kind].pop(request[f"{part}Identifier"]))

    def add_tags_to_resource(self, *, ResourceName, Tags):  # noqa: N803
        for one in self.world.copies(self.region):
            if ResourceName in (one.get("DBSnapshotArn"), one.get("DBClusterSnapshotArn")):
                one["TagList"] += Tags


class Events:
    def __init__(self, world, region):
        self.world = world

    def put_events(self, *, Entries):  # noqa: N803
        self.world.announced += [json.loads(one["Detail"]) for one in Entries]
        return {"FailedEntryCount": 0, "Entries": [{}]}


class Sqs:
    """A work queue and a dead-letter queue; delivery at least once."""

    def __init__(self, world, region):
        self.world, self.state = world, world.queues

    def send_message(self, *, QueueUrl, MessageBody, MessageAttributes=None):  # noqa: N803
        if QueueUrl == "dead":
            for one in MessageAttributes.values():  # SQS refuses others
                assert re.fullmatch(r"[\t\n\r -\ud7ff\ue000-\ufffd]+", one["StringValue"])
            self.state["dead"].append((MessageBody, MessageAttributes))
            return
        number = str(next(self.state["number"]))
        self.state["messages"][number] = {
            "body": MessageBody,
            "visible": self.world.now,
            "receives": 0,
        }

    def change_message_visibility(self, *, QueueUrl, ReceiptHandle, VisibilityTimeout):  # noqa: N803
        if ReceiptHandle in self.state["messages"]:
            self.state["messages"][ReceiptHandle]["visible"] = self.world.now + timedelta(
                seconds=VisibilityTimeout
            )

    def receive(self, count=10, *, again=False):
        """Up to ``count`` visible messages, as Lambda's records; ``again``: one of them twice."""
        ready = itertools.islice(
            (
                (number, one)
                for number, one in self.state["messages"].items()
                if one["visible"] <= self.world.now
            ),
            count,
        )
        records = []
        for number, one in ready:
            one["receives"] += 1
            one["visible"] = self.world.now + timedelta(seconds=1800)
            records.append(
                {
                    "messageId": number,
                    "receiptHandle": number,
                    "body": one["body"],
                    "attributes": {"ApproximateReceiveCount": str(one["receives"])},
                }
            )
        return records + records[:1] if again else records

    def settle(self, records, answer):
        failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        for one in records:
            if one["messageId"] not in failed:
                self.state["messages"].pop(one["messageId"], None)
