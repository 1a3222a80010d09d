"""Names that derive from the stack's name.

How long that may be, and that no name stops a second copy of a stack.
"""

import json
import re
from itertools import chain
from pathlib import Path

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from eventstacks import rendering

PAGES = Path(__file__).parents[2] / "docs" / "stacks"
STACKS = list(rendering.find())
LONGEST_STACK_NAME = 128  # CreateStack
LONGEST_REGION = "ap-southeast-1"
# Limits that the resource schemas do not have: SNS API reference, SetTopicAttributes.
LIMITS = {("AWS::SNS::Topic", "DisplayName"): 100}
# Names that need to be unique in something of the stack only.
WITHIN_STACK = {"AWS::Events::EventBusPolicy", "AWS::Lambda::EventInvokeConfig"}


def schema(kind):
    return PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema


def longest_name(template):
    """The longest name that a stack of this template can have, by the limits of the names in it."""
    lengths = [LONGEST_STACK_NAME]
    for resource in template["Resources"].values():
        kind = resource["Type"]
        for key, value in resource.get("Properties", {}).items():
            limit = schema(kind)["properties"].get(key, {}).get("maxLength")
            limit = LIMITS.get((kind, key), limit)
            text = "${AWS::StackName}" if value == {"Ref": "AWS::StackName"} else ""
            text = text or (value.get("Fn::Sub", "") if isinstance(value, dict) else "")
            if limit and isinstance(text, str) and text.count("${AWS::StackName}") == 1:
                rest = text.replace("${AWS::StackName}", "").replace(
                    "${AWS::Region}", LONGEST_REGION
                )
                lengths.append(limit - len(rest))
    return min(lengths)


@pytest.mark.parametrize("stack", STACKS)
def test_the_page_tells_how_long_the_name_of_the_stack_may_be(stack):
    limit = longest_name(rendering.render(stack).document)
    page = " ".join((PAGES / f"{stack}.md").read_text(encoding="utf-8").split())
    told = {int(one) for one in re.findall(r"stack's name(?:: | has )at most (\d+)\s", page)}
    assert told == (set() if limit == LONGEST_STACK_NAME else {limit})


@pytest.mark.parametrize("stack", STACKS)
def test_no_name_stops_a_second_copy_in_the_same_account_and_region(stack):
    for name, resource in rendering.render(stack).document["Resources"].items():
        found = schema(resource["Type"])
        keys = found["primaryIdentifier"] + list(chain(*found.get("additionalIdentifiers", [])))
        for key in {one.rsplit("/", 1)[-1] for one in keys} & set(resource.get("Properties", {})):
            value = json.dumps(resource["Properties"][key])
            assert (
                resource["Type"] in WITHIN_STACK
                or "AWS::StackName" in value
                or '"Fn::GetAtt"' in value
                or '"Ref"' in value
            ), f"{name}: {key} is {value}"
