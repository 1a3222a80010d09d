"""StackSets on moto."""

import dataclasses
import functools
import importlib.util
import re
import signal
import sys
import threading
import time
import types

import pytest
from rendered import rendered
from scripted_cloudformation import environment, refusal, stack

from eventstacks.aws import Aws
from eventstacks.cloudformation import deployer
from eventstacks.cloudformation.change_set import Options
from eventstacks.cloudformation.run import Interrupted
from eventstacks.environment import Source, StackSet
from eventstacks.errors import ErrorCode, ToolError

ACCOUNTS = ("111111111111", "222222222222")
REGIONS = ("us-east-1", "eu-west-1")
TEMPLATE = (
    "Resources:\n  Bus:\n    Type: AWS::Events::EventBus\n    Properties:\n      Name: shop\n"
)


def stand_in(name, **names):
    """moto's CloudFormation imports API Gateway, and that a validator of OpenAPI which no test here needs."""
    module = types.ModuleType(name)
    module.__dict__.update(names, __path__=[])
    sys.modules.setdefault(name, module)


@pytest.fixture
def moto_aws(monkeypatch):
    if (
        "openapi_spec_validator" not in sys.modules
        and importlib.util.find_spec("openapi_spec_validator") is None
    ):
        stand_in("openapi_spec_validator", validate=None)
        stand_in("openapi_spec_validator.validation")
        stand_in("openapi_spec_validator.validation.exceptions", OpenAPIValidationError=Exception)
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


class World:
    """An environment with a stack set, on moto, and what is in front of it."""

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

    def heard(self, *methods):
        """(method, arguments) of the calls from now on; moto answers them."""
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
        chosen = deployer.create(self.aws, self.environment.choose(), clock=self.clock)
        return chosen.delete(chosen.preview_deletion(), **more)

    def status(self):
        chosen = deployer.create(self.aws, self.environment.choose(), clock=self.clock)
        return [one.status for one in chosen.status()]

    def instances(self):
        return sorted(
            (one["Account"], one["Region"])
            for one in self.client.list_stack_instances(StackSetName="t-bus")["Summaries"]
        )


@pytest.fixture
def sets(moto_aws, clock, monkeypatch):
    return functools.partial(World, clock, monkeypatch)


def stack_with(regions=REGIONS, **more):
    return stack(regions=regions, **more)


def test_created_in_every_account_and_region_then_nothing_to_do(sets):
    w = sets()
    assert [plan.settings for plan in w.plan()] == [
        ("stack set: new", f"stacks of {', '.join(ACCOUNTS)} in {', '.join(REGIONS)}")
    ]
    assert w.client.list_stack_sets()["Summaries"] == []
    assert [one.outcome for one in w.deploy()] == ["created"]
    assert w.instances() == sorted((account, region) for account in ACCOUNTS for region in REGIONS)
    assert [plan.changes for plan in w.plan()] == [False]
    assert [one.outcome for one in w.deploy()] == ["unchanged"]
    assert w.status() == ["4 CURRENT"]
    assert w.client.describe_stack_set(StackSetName="t-bus")["StackSet"]["Tags"] == [
        {"Key": "team", "Value": "shop"}
    ]


def test_a_template_that_changed_is_an_update(sets):
    w = sets()
    w.deploy()
    w.change()
    assert [plan.settings for plan in w.plan()] == [("stack set: template",)]
    assert [one.outcome for one in w.deploy()] == ["updated"]
    assert "stock" in w.client.describe_stack_set(StackSetName="t-bus")["StackSet"]["TemplateBody"]


def test_saying_no_changes_nothing(sets):
    from eventstacks.cloudformation.run import Listener

    class No(Listener):
        def confirm(self, plans):
            return False

    w = sets()
    assert w.deploy(listener=No()) == []
    assert w.client.list_stack_sets()["Summaries"] == []


def test_deleted_with_all_its_stacks(sets):
    w = sets()
    w.deploy()
    assert [one.outcome for one in w.delete()] == ["deleted"]
    assert w.status() == ["NOT_DEPLOYED"]
    assert [one.outcome for one in w.delete()] == ["unchanged"]


CHANGES = (
    "create_stack_set",
    "update_stack_set",
    "delete_stack_set",
    "create_stack_instances",
    "delete_stack_instances",
)


@pytest.mark.parametrize("how", [{"disable_rollback": True}, {"nested": False}])
def test_options_that_stack_sets_do_not_have_are_refused(sets, how):
    w = sets()
    calls = w.heard(*CHANGES)
    with pytest.raises(ToolError, match="not supported"):
        w.plan(**how)
    with pytest.raises(ToolError, match="not supported"):
        w.deploy(how)
    assert calls == []


def test_a_protected_environment_updates_a_stack_set_only_by_its_name(sets):
    w = sets()
    w.protect()
    assert [one.outcome for one in w.deploy()] == ["created"]  # what is new loses nothing
    assert [one.outcome for one in w.deploy()] == ["unchanged"]
    w.change()
    assert [plan.settings for plan in w.plan()] == [("stack set: template",)]
    calls = w.heard(*CHANGES)
    for how in ({}, {"allow_replace": frozenset({"Bus"})}):
        with pytest.raises(ToolError, match=re.compile("ARGS='--allow-replace t-bus'$")):
            w.deploy(how)
    assert calls == []
    assert [one.outcome for one in w.deploy({"allow_replace": frozenset({"t-bus"})})] == ["updated"]


UNIT = "ou-abcd-12345678"


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


def created(w):
    """The regions and targets of the calls that make stacks."""
    return [
        (call["Regions"], call["DeploymentTargets"])
        for name, call in w.calls
        if name == "create_stack_instances"
    ]


def missing(**_):
    raise refusal("StackSetNotFoundException")


def test_units_are_the_targets_of_service_managed_sets(sets):
    w = by_unit(sets, there=())
    w.patch.setattr(w.client, "describe_stack_set", missing)
    assert [plan.settings for plan in w.plan()] == [
        ("stack set: new", f"stacks of {UNIT} in {', '.join(REGIONS)}")
    ]
    assert [one.outcome for one in w.deploy()] == ["created"]
    assert created(w) == [(list(REGIONS), {"OrganizationalUnitIds": [UNIT]})]


def test_a_unit_without_accounts_is_no_change(sets):
    w = by_unit(sets, there=())
    assert [plan.changes for plan in w.plan()] == [False]


RESULTS = [
    {"Account": ACCOUNTS[0], "Region": "us-east-1", "Status": "SUCCEEDED"},
    {"Account": ACCOUNTS[1], "Region": "eu-west-1", "Status": "FAILED", "StatusReason": "no role"},
    {"Account": ACCOUNTS[0], "Region": "eu-west-1", "Status": "CANCELLED"},
]
FAILED = (
    f"account {ACCOUNTS[1]} in eu-west-1: no role; account {ACCOUNTS[0]} in eu-west-1: CANCELLED"
)


@pytest.mark.parametrize("ended", ["SUCCEEDED", "FAILED"])  # SUCCEEDED: within the tolerance
def test_failed_accounts_are_named_with_their_reasons(sets, ended):
    w = sets()
    w.answer("describe_stack_set_operation", {"StackSetOperation": {"Status": ended}})
    w.answer("list_stack_set_operation_results", {"Summaries": RESULTS})
    (result,) = w.deploy()
    assert (result.outcome, result.problem.what) == ("failed", FAILED)
    assert result.problem.advice.endswith("make deploy ENV=test STACK=bus")


def test_an_operation_that_failed_without_an_account_has_its_own_reason(sets):
    w = sets()
    ended = {"Status": "FAILED", "StatusReason": "the administrator role is missing"}
    w.answer("describe_stack_set_operation", {"StackSetOperation": ended})
    w.answer("list_stack_set_operation_results", {"Summaries": []})
    (result,) = w.deploy()
    assert result.problem.what == "the administrator role is missing"


@pytest.mark.parametrize("regions", [REGIONS[:1], REGIONS[1:]])
@pytest.mark.parametrize("verb", ["plan", "status", "follow", "preview_deletion"])
def test_one_of_the_regions_cannot_be_chosen(sets, regions, verb):
    w = sets()
    refs = w.environment.choose(None, regions[0])
    with pytest.raises(ToolError):
        getattr(deployer.create(w.aws, refs), verb)


@pytest.mark.parametrize(
    ("given", "wanted", "changes"),
    [(False, False, False), (None, False, False), (False, True, True), (True, False, True)],
)
def test_auto_deployment_is_held_to_the_file(sets, given, wanted, changes):
    held = {"AutoDeployment": None if given is None else {"Enabled": given}}
    w = by_unit(sets, held=held, auto_deployment=wanted)
    assert [plan.settings for plan in w.plan()] == [
        ("stack set: auto deployment",) if changes else ()
    ]
    w.deploy()
    retention = {"RetainStacksOnAccountRemoval": False} if wanted else {}
    assert [(name, call["AutoDeployment"]) for name, call in w.calls] == [
        ("update_stack_set", {"Enabled": wanted, **retention})
    ] * changes


def test_an_account_that_the_file_names_later_gets_its_stacks(sets):
    sets(accounts=ACCOUNTS[:1]).deploy()
    w = sets()
    assert [plan.settings for plan in w.plan()] == [
        (f"stacks of {ACCOUNTS[1]} in {', '.join(REGIONS)}",)
    ]
    calls = w.heard("create_stack_instances")
    assert [one.outcome for one in w.deploy()] == ["updated"]
    assert [(call["Accounts"], call["Regions"]) for _, call in calls] == [
        ([ACCOUNTS[1]], [*REGIONS])
    ]
    assert [plan.changes for plan in w.plan()] == [False]


def test_a_unit_gets_its_stacks_in_a_region_more(sets):
    w = by_unit(sets)
    held = w.client.list_stack_instances()["Summaries"]
    only = [one for one in held if one["Region"] == "us-east-1"]
    w.answer("list_stack_instances", {"Summaries": only})
    assert [plan.settings for plan in w.plan()] == [(f"stacks of {UNIT} in eu-west-1",)]


def test_deleting_takes_what_is_there_whatever_the_file_names(sets):
    w = by_unit(sets, unit="ou-abcd-87654321")
    (preview,) = w.deployer().preview_deletion()
    assert len(preview.deleted) == len(ACCOUNTS) * len(REGIONS)
    assert [one.outcome for one in w.delete()] == ["deleted"]
    (name, call), (last, _) = w.calls
    assert (name, last) == ("delete_stack_instances", "delete_stack_set")
    assert call["DeploymentTargets"] == {"OrganizationalUnitIds": ["ou-abcd-87654321"]}


def test_a_protected_environment_keeps_its_stack_sets(sets):
    w = by_unit(sets)
    w.protect()
    (result,) = w.delete()
    assert (result.outcome, result.problem.code) == ("failed", ErrorCode.STACK_PROTECTED)
    assert w.calls == []


def moving(w, action="UPDATE", ends="SUCCEEDED"):
    """An operation is in progress on the stack set, and ends after two looks."""
    states = iter(["RUNNING", "RUNNING", *[ends] * 9])
    running = {"OperationId": "theirs", "Action": action, "Status": "RUNNING"}
    ended = {"OperationId": "old", "Status": "FAILED"}
    w.answer("list_stack_set_operations", {"Summaries": [ended, running]})
    w.patch.setattr(
        w.client,
        "describe_stack_set_operation",
        lambda **_: {"StackSetOperation": {"Status": next(states)}},
    )
    failed = RESULTS if ends == "FAILED" else []
    w.answer("list_stack_set_operation_results", {"Summaries": failed})


@pytest.mark.parametrize(
    ("action", "ends", "outcome"),
    [
        ("UPDATE", "SUCCEEDED", "updated"),
        ("DELETE", "SUCCEEDED", "deleted"),
        ("DETECT_DRIFT", "SUCCEEDED", "unchanged"),
        ("CREATE", "FAILED", "failed"),
    ],
)
def test_what_is_in_progress_on_a_stack_set_is_followed(sets, action, ends, outcome):
    w = by_unit(sets)
    moving(w, action, ends)
    assert [one.outcome for one in w.deployer().follow()] == [outcome]


def test_without_an_operation_in_progress_nothing_is_followed(sets):
    w = sets()
    assert w.deployer().follow() == []  # not even a stack set
    w.deploy()
    assert w.deployer().follow() == []


def test_ctrl_c_names_the_stack_set_that_continues(sets):
    w = by_unit(sets)
    moving(w)
    pressed = threading.Event()

    def look(**_):
        if not pressed.is_set():
            pressed.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)
        return {"StackSetOperation": {"Status": "RUNNING"}}

    w.patch.setattr(w.client, "describe_stack_set_operation", look)
    with pytest.raises(Interrupted) as caught:
        w.deployer().follow()
    assert [str(one) for one in caught.value.refs] == ["t-bus in us-east-1"]
    assert caught.value.refs[0].command("follow") == "make follow ENV=test STACK=bus"


@pytest.mark.parametrize("verb", ["drift", "propose_recovery"])
def test_verbs_for_single_stacks_are_refused_with_what_to_do_instead(sets, verb):
    with pytest.raises(ToolError) as caught:
        getattr(sets().deployer(), verb)()
    assert caught.value.code == ErrorCode.UNSUPPORTED
    assert "aws cloudformation" in caught.value.advice or "make deploy" in caught.value.advice


def test_a_bucket_in_another_account_cannot_be_emptied(sets):
    with pytest.raises(ToolError):
        sets().deployer().delete([], empty_buckets=True)


def test_stacks_that_are_behind_have_advice(sets):
    w = by_unit(sets)
    held = w.client.list_stack_instances()["Summaries"]
    w.answer("list_stack_instances", {"Summaries": [{**held[0], "Status": "OUTDATED"}]})
    (found,) = w.deployer().status()
    assert (found.status, found.advice) == ("1 OUTDATED", "make deploy ENV=test STACK=bus")


@pytest.mark.parametrize(
    ("values", "is_refused"),
    [
        ({"Size": {"us-east-1": "1", "eu-west-1": "2"}}, True),
        ({"Size": {"us-east-1": "1", "eu-west-1": "1"}}, False),
        ({"Size": Source("Env", "SIZE")}, True),
    ],
)
def test_a_value_must_be_in_the_file_and_the_same_everywhere(sets, values, is_refused):
    w = sets(stack_with(parameters=values))
    (plan,) = w.plan()
    assert (plan.problem is not None) == is_refused
    assert not is_refused or plan.problem.code == ErrorCode.UNSUPPORTED


def test_what_aws_refuses_is_the_problem_of_the_stack_set(sets):
    w = sets()

    def refuse(**_):
        raise refusal("InvalidAction", "no stack sets here")

    w.patch.setattr(w.client, "describe_stack_set", refuse)
    assert [plan.problem.code for plan in w.plan()] == [ErrorCode.AWS_ERROR]


def test_deleting_takes_the_stacks_with_it(sets):
    w = sets()
    w.deploy()
    calls = w.heard(*CHANGES)
    w.delete()
    assert [name for name, _ in calls] == ["delete_stack_instances", "delete_stack_set"]
    given = calls[0][1]
    assert (given["RetainStacks"], given["Accounts"], given["Regions"]) == (
        False,
        [*ACCOUNTS],
        sorted(REGIONS),
    )


@pytest.mark.parametrize(
    ("concurrency", "tolerance", "mode"),
    [(5, 1, "SOFT"), (3, 1, "SOFT"), (2, 1, "STRICT"), (1, 0, "STRICT")],
)
def test_the_concurrency_asked_for_is_what_aws_is_told(sets, concurrency, tolerance, mode):
    w = sets(concurrency=concurrency, failure_tolerance=tolerance)
    calls = w.heard("create_stack_instances")
    w.deploy()
    assert calls[0][1]["OperationPreferences"] == {
        "RegionConcurrencyType": "PARALLEL",
        "MaxConcurrentCount": concurrency,
        "FailureToleranceCount": tolerance,
        "ConcurrencyMode": f"{mode}_FAILURE_TOLERANCE",
    }


@pytest.mark.parametrize(
    ("code", "outcome"), [("OperationIdAlreadyExists", "updated"), ("StaleRequest", "failed")]
)
def test_an_operation_whose_answer_was_lost_is_followed(sets, code, outcome):
    w = by_unit(sets, held={"TemplateBody": "other"})
    asked = []

    def lost(**given):
        w.calls.append(("update_stack_set", given))
        raise refusal(f"{code}Exception")

    w.patch.setattr(w.client, "update_stack_set", lost)
    ended = {"StackSetOperation": {"Status": "SUCCEEDED"}}
    w.patch.setattr(
        w.client,
        "describe_stack_set_operation",
        lambda **given: asked.append(given["OperationId"]) or ended,
    )
    assert [one.outcome for one in w.deploy()] == [outcome]
    assert asked == ([w.calls[0][1]["OperationId"]] if outcome == "updated" else [])


def test_what_is_sent_of_the_file(sets):
    w = sets()
    calls = w.heard("create_stack_set")
    w.deploy()
    given = calls[0][1]
    assert (given["Tags"], given["PermissionModel"]) == (
        [{"Key": "team", "Value": "shop"}],
        "SELF_MANAGED",
    )
    w = sets(stack_with(tags={"team": "stock"}))
    assert [plan.settings for plan in w.plan()] == [("stack set: tags",)]


def test_stacks_that_are_behind_are_updated_again(sets):
    w = by_unit(sets)
    here = w.client.list_stack_instances()["Summaries"]
    w.answer("list_stack_instances", {"Summaries": [here[0] | {"Status": "OUTDATED"}, *here[1:]]})
    assert [plan.settings for plan in w.plan()] == [("stack set: 1 stacks not current",)]
    w.deploy()
    assert [name for name, _ in w.calls] == ["update_stack_set"]


def test_a_secret_that_aws_hides_is_no_change(sets, monkeypatch):
    w = sets(stack_with(parameters={"Secret": "s3cret", "Size": "1"}))
    w.deploy()
    held = w.client.describe_stack_set(StackSetName="t-bus")
    given = [
        {"ParameterKey": "Secret", "ParameterValue": "****"},
        {"ParameterKey": "Size", "ParameterValue": "1"},
    ]
    held["StackSet"] |= {"Parameters": given}
    monkeypatch.setattr(w.client, "describe_stack_set", lambda **_: held)
    assert [plan.changes for plan in w.plan()] == [False]
    given[1]["ParameterValue"] = "2"
    assert [plan.settings for plan in w.plan()] == [("stack set: parameters",)]


@pytest.mark.parametrize("told", [True, False])
def test_defaults_that_aws_gives_back_are_no_change(sets, told):
    given = [
        {"ParameterKey": "Days", "ParameterValue": "7"},
        {"ParameterKey": "On", "ParameterValue": "true"},
    ]
    w = by_unit(sets, held={"Parameters": given if told else []})
    w.templates["queue"].document["Parameters"] = {"Days": {"Default": 7}, "On": {"Default": True}}
    assert [plan.changes for plan in w.plan()] == [False]
    w.templates["queue"].document["Parameters"]["Days"]["Default"] = 8
    assert [plan.changes for plan in w.plan()] == [told]
    given[0]["ParameterValue"] = "9"
    assert [plan.changes for plan in w.plan()] == [told]


@pytest.mark.parametrize("mangled", [True, False])
def test_characters_that_aws_does_not_give_back_are_no_change(sets, mangled):
    text = TEMPLATE + "# Grüße é 請\n"
    w = by_unit(sets, held={"TemplateBody": text if not mangled else TEMPLATE + "# Gr??e ? ?\n"})
    w.write(text)
    assert [plan.changes for plan in w.plan()] == [False]
    w.write(text.replace("請", "x"))
    assert [plan.settings for plan in w.plan()] == [("stack set: template",)]
