"""CopyDBSnapshot and CopyDBClusterSnapshot, which MiniStack lacks; from another Region too, the source given by its ARN."""

import contextvars
from typing import Any

from ministack.core import iam_actions
from ministack.core.responses import get_account_id, get_region, now_iso, set_request_region
from ministack.services import rds

from eventstacks.local.ministack import Original, patch

Form = dict[str, list[str]]


def copy_snapshot(part: str, kind: str, form: Form) -> Any:
    """Copy a snapshot of an instance or a cluster; the copy is available at once. Quotas are not counted.

    ``part``: DBSnapshot or DBClusterSnapshot; ``kind``: its part of an ARN.
    """
    is_cluster = part == "DBClusterSnapshot"
    store = rds._db_cluster_snapshots if is_cluster else rds._snapshots
    suffix = "Fault" if is_cluster else ""
    source, name = form[f"Source{part}Identifier"][0], form[f"Target{part}Identifier"][0]
    origin = source.split(":")[3] if source.startswith("arn:") else get_region()
    elsewhere = contextvars.copy_context()
    elsewhere.run(set_request_region, origin)
    original = elsewhere.run(store.get, source.rsplit(f":{kind}:", maxsplit=1)[-1])
    if original is None:
        return rds._error(f"{part}NotFound{suffix}", f"Snapshot {source} not found.", 404)
    if name in store:
        return rds._error(f"{part}AlreadyExists{suffix}", f"{name} already exists.", 400)
    tags = rds._parse_tags(form)
    copy = {
        **original,
        f"{part}Identifier": name,
        "SourceRegion": origin,
        f"Source{part}Identifier": source,
        f"{part}Arn": f"arn:aws:rds:{get_region()}:{get_account_id()}:{kind}:{name}",
        "SnapshotType": "manual",
        "SnapshotCreateTime": now_iso(),
        "TagList": tags,
    }
    if key := form.get("KmsKeyId"):
        copy |= {"KmsKeyId": key[0], "StorageEncrypted" if is_cluster else "Encrypted": True}
    store[name], rds._tags[copy[f"{part}Arn"]] = copy, tags
    xml = (rds._cluster_snapshot_xml if is_cluster else rds._snapshot_xml)(copy)
    text = f"<Copy{part}Result><{part}>{xml}</{part}></Copy{part}Result>"
    return rds._xml(200, f"Copy{part}Response", text)


def _copy_instance_snapshot(form: Form) -> Any:
    return copy_snapshot("DBSnapshot", "snapshot", form)


def _copy_cluster_snapshot(form: Form) -> Any:
    return copy_snapshot("DBClusterSnapshot", "cluster-snapshot", form)


rds._ACTION_MAP["CopyDBSnapshot"] = _copy_instance_snapshot
rds._ACTION_MAP["CopyDBClusterSnapshot"] = _copy_cluster_snapshot


@patch("extract_resource_arn", iam_actions)
def resource_of(original: Original, service: str, *request: Any) -> str:
    """Return the ARN of the snapshot that a request copies, deletes or tags; MiniStack knows instances and clusters only.

    A copy is authorized for its source and its target (service authorization reference); here only for the target.
    """
    arn = str(original(service, *request))
    form, region, account = request[4], request[5], request[6]
    action = str(form.get("Action", [""])[0])
    if service != "rds" or not action.startswith(("Copy", "Delete", "AddTags")):
        return arn
    if name := form.get("ResourceName"):
        return str(name[0])
    for part, kind in (("DBSnapshot", "snapshot"), ("DBClusterSnapshot", "cluster-snapshot")):
        for key in (f"Target{part}Identifier", f"{part}Identifier"):
            if key in form:
                return f"arn:aws:rds:{region}:{account}:{kind}:{form[key][0]}"
    return arn
