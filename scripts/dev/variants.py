"""Write each template with its conditions resolved: ``python -m dev.variants DIRECTORY``.

checkov does not resolve Fn::If and takes a property for set that AWS::NoValue removes. So `make
scan` reads these files: one at the defaults, and one for each other value of a parameter that
conditions compare.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from eventstacks import rendering
from eventstacks.flow.resolve import Stack

REGION, ACCOUNT = "eu-central-1", "111122223333"
# A value of each kind that makes the other branch of the conditions true.
OTHERS = {
    "AlarmTopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms",
    "AllowEventBridge": "yes",
    "Authorization": "BASIC",
    "BusLogLevel": "TRACE",
    "ClassicEventBusName": "old-events",
    "CreateKey": "no",
    "DeletionProtection": "yes",
    "DetailTypes": "OrderPlaced",
    "DirectPutEvents": "yes",
    "EventBusName": "orders",
    "EventSource": "s3",
    "FlexibleWindowInMinutes": "15",
    "FunctionArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:task",
    "KeepArchive": "no",
    "KmsKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1",
    "LogsPolicyScope": "account",
    "OrganizationId": "o-a1b2c3d4e5",
    "SecretId": "partner/webhook",
    "PublisherArns": f"arn:aws:iam::{ACCOUNT}:role/publisher",
    "SlackChannelId": "C0123ABCD",
    "Tracing": "yes",
}
# What a parameter needs beside it.
NEEDED = {"SlackChannelId": {"SlackWorkspaceId": "T0123ABCD"}}


def variant(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """Return the resources of a template as AWS sees them with these parameters."""
    stack = Stack(template, parameters, "scan", REGION, ACCOUNT)
    resources = {name: stack.resolve(template["Resources"][name]) for name in stack.resources()}
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


def main(directory: Path) -> None:
    """Write the variants of all templates into a directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, rendered in rendering.render_all().items():
        declared = rendered.document["Parameters"]
        chosen: dict[str, dict[str, str]] = {"defaults": {}} | {
            key: {key: value, **NEEDED.get(key, {})}
            for key, value in OTHERS.items()
            if key in declared
        }
        for label, parameters in chosen.items():
            text = json.dumps(variant(rendered.document, parameters), indent=2)
            (directory / f"{name}.{label}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
