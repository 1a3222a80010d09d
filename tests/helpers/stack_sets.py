"""Environments with a stack set, on moto."""

import dataclasses

from rendered import rendered
from scripted_aws import environment, stack

from eventstacks.aws import Aws
from eventstacks.cloudformation import deployer
from eventstacks.cloudformation.change_set import Options
from eventstacks.environment import StackSet

ACCOUNTS = ("111111111111", "222222222222")


REGIONS = ("us-east-1", "eu-west-1")


UNIT = "ou-abcd-12345678"


TEMPLATE = (
    "Resources:\n  Bus:\n    Type: AWS::Events::EventBus\n    Properties:\n      Name: shop\n"
)


CHANGES = (
    "create_stack_set",
    "update_stack_set",
    "delete_stack_set",
    "create_stack_instances",
    "delete_stack_instances",
)


class StackSetWorld:
    """An environment with a stack set, on moto."""

    def __init__(self, clock, monkeypatch, *stacks, **target):
        target = {
            "accounts": ACCOUNTS,
            "concurrency": 5,
            "failure_tolerance": 1,
            **target,
        }
        self.environment = environment(
            *(stacks or [stack(regions=REGIONS, tags={"team": "shop"})]),
            stack_set=StackSet(**target),
        )
        self.aws = Aws(self.environment)
        self.client = self.aws.client("cloudformation", "us-east-1")
        self.clock, self.patch = clock, monkeypatch
        document = {"Resources": {"Bus": {"Type": "AWS::Events::EventBus"}}}
        self.templates = {"queue": rendered(document, "queue", TEMPLATE)}
        self.given = (self.aws, self.templates, self.environment.choose())

    def protect(self):
        self.environment = self.aws.environment = dataclasses.replace(
            self.environment, protect=True
        )
        self.given = (self.aws, self.templates, self.environment.choose())

    def change(self):
        self.write(TEMPLATE.replace("shop", "stock"))

    def write(self, text):
        self.templates["queue"] = dataclasses.replace(self.templates["queue"], text=text)

    def answer(self, method, answer):
        """AWS's answer in place of moto's."""
        self.patch.setattr(self.client, method, lambda **_: answer)

    def record_calls(self, *methods):
        """Return the list to which (method, arguments) of later calls are added; moto answers them."""
        calls = []

        def listen(name, real):
            self.patch.setattr(
                self.client, name, lambda **given: calls.append((name, given)) or real(**given)
            )

        for name in methods:
            listen(name, getattr(self.client, name))
        return calls

    def deployer(self, listener=None):
        aws, _, refs = self.given
        return deployer.create(aws, refs, listener=listener, clock=self.clock)

    def plan(self, **how):
        return self.deployer().plan(self.templates, Options(**how))

    def deploy(self, how=None, listener=None):
        return self.deployer(listener).deploy(self.templates, Options(**how or {}))

    def delete(self, **more):
        chosen = self.deployer()
        return chosen.delete(chosen.preview_deletion(), **more)

    def status(self):
        return [one.status for one in self.deployer().status()]

    def instances(self):
        return sorted(
            (one["Account"], one["Region"])
            for one in self.client.list_stack_instances(StackSetName="t-bus")["Summaries"]
        )


def by_unit(sets, there=ACCOUNTS, unit=UNIT, held=None, **target):
    """A service-managed stack set as AWS describes it, with current stacks in ``there``; moto knows little of them."""
    w = sets(organizational_units=(UNIT,), accounts=(), **target)
    found = {
        "TemplateBody": TEMPLATE,
        "Parameters": [],
        "Tags": [{"Key": "team", "Value": "shop"}],
        "AutoDeployment": {"Enabled": False},
        "OrganizationalUnitIds": [UNIT],
        **(held or {}),
    }
    w.answer("describe_stack_set", {"StackSet": found})
    current = [
        {"Account": account, "Region": region, "OrganizationalUnitId": unit, "Status": "CURRENT"}
        for account in there
        for region in REGIONS
    ]
    w.answer("list_stack_instances", {"Summaries": current})
    w.answer("list_stack_set_operations", {"Summaries": []})
    w.answer("list_stack_set_operation_results", {"Summaries": []})
    w.answer("describe_stack_set_operation", {"StackSetOperation": {"Status": "SUCCEEDED"}})
    w.calls = []
    for method in CHANGES:
        w.patch.setattr(
            w.client, method, lambda _name=method, **given: w.calls.append((_name, given)) or {}
        )
    return w
