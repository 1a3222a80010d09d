"""Create, update, delete and follow stack sets, on moto."""

import re
import signal
import threading
import time

import pytest
from scripted_cloudformation import refusal
from stack_sets import ACCOUNTS, CHANGES, REGIONS, UNIT, by_unit

from eventstacks.cloudformation import deployer
from eventstacks.cloudformation.run import Interrupted, Listener
from eventstacks.errors import ErrorCode, ToolError


def test_a_stack_set_is_created_in_every_account_and_region_then_unchanged(sets):
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
    described = w.client.describe_stack_set(StackSetName="t-bus")["StackSet"]
    assert described["Tags"] == [{"Key": "team", "Value": "shop"}]
    assert described["PermissionModel"] == "SELF_MANAGED"


def test_a_changed_template_updates_the_stack_set(sets):
    w = sets()
    w.deploy()
    w.change()
    assert [plan.settings for plan in w.plan()] == [("stack set: template",)]
    assert [one.outcome for one in w.deploy()] == ["updated"]
    assert "stock" in w.client.describe_stack_set(StackSetName="t-bus")["StackSet"]["TemplateBody"]


def test_declining_the_plan_creates_nothing(sets):
    class No(Listener):
        def confirm(self, plans):
            return False

    w = sets()
    assert w.deploy(listener=No()) == []
    assert w.client.list_stack_sets()["Summaries"] == []


def test_deletion_deletes_all_stacks_and_then_the_stack_set(sets):
    w = sets()
    w.deploy()
    calls = w.record_calls(*CHANGES)
    assert [one.outcome for one in w.delete()] == ["deleted"]
    (name, call), (last, _) = calls
    assert (name, last) == ("delete_stack_instances", "delete_stack_set")
    assert call["RetainStacks"] is False
    assert (call["Accounts"], call["Regions"]) == ([*ACCOUNTS], sorted(REGIONS))
    assert w.status() == ["NOT_DEPLOYED"]
    assert [one.outcome for one in w.delete()] == ["unchanged"]


@pytest.mark.parametrize("how", [{"disable_rollback": True}, {"nested": False}])
def test_options_for_single_stacks_are_refused(sets, how):
    w = sets()
    calls = w.record_calls(*CHANGES)
    with pytest.raises(ToolError, match="not supported"):
        w.plan(**how)
    with pytest.raises(ToolError, match="not supported"):
        w.deploy(how)
    assert calls == []


def test_updating_a_protected_stack_set_needs_allow_replace_with_its_name(sets):
    w = sets()
    w.protect()
    assert [one.outcome for one in w.deploy()] == ["created"]  # what is new loses nothing
    assert [one.outcome for one in w.deploy()] == ["unchanged"]
    w.change()
    assert [plan.settings for plan in w.plan()] == [("stack set: template",)]
    calls = w.record_calls(*CHANGES)
    for how in ({}, {"allow_replace": frozenset({"Bus"})}):
        with pytest.raises(ToolError, match=re.compile("ARGS='--allow-replace t-bus'$")):
            w.deploy(how)
    assert calls == []
    assert [one.outcome for one in w.deploy({"allow_replace": frozenset({"t-bus"})})] == ["updated"]


def created(w):
    """The regions and targets of the calls that make stacks."""
    return [
        (call["Regions"], call["DeploymentTargets"])
        for name, call in w.calls
        if name == "create_stack_instances"
    ]


def missing(**_):
    raise refusal("StackSetNotFoundException")


def test_organizational_units_are_the_targets_of_a_service_managed_set(sets):
    w = by_unit(sets, there=())
    w.patch.setattr(w.client, "describe_stack_set", missing)
    assert [plan.settings for plan in w.plan()] == [
        ("stack set: new", f"stacks of {UNIT} in {', '.join(REGIONS)}")
    ]
    assert [one.outcome for one in w.deploy()] == ["created"]
    assert created(w) == [(list(REGIONS), {"OrganizationalUnitIds": [UNIT]})]


RESULTS = [
    {"Account": ACCOUNTS[0], "Region": "us-east-1", "Status": "SUCCEEDED"},
    {"Account": ACCOUNTS[1], "Region": "eu-west-1", "Status": "FAILED", "StatusReason": "no role"},
    {"Account": ACCOUNTS[0], "Region": "eu-west-1", "Status": "CANCELLED"},
]
FAILED = (
    f"account {ACCOUNTS[1]} in eu-west-1: no role; account {ACCOUNTS[0]} in eu-west-1: CANCELLED"
)


@pytest.mark.parametrize(
    ("ended", "results", "reason"),
    [
        ({"Status": "SUCCEEDED"}, RESULTS, FAILED),  # within the tolerance
        ({"Status": "FAILED"}, RESULTS, FAILED),
        ({"Status": "FAILED", "StatusReason": "no administrator"}, [], "no administrator"),
    ],
)
def test_a_failed_operation_names_accounts_and_reasons(sets, ended, results, reason):
    w = sets()
    w.answer("describe_stack_set_operation", {"StackSetOperation": ended})
    w.answer("list_stack_set_operation_results", {"Summaries": results})
    (result,) = w.deploy()
    assert (result.outcome, result.problem.what) == ("failed", reason)
    assert result.problem.advice.endswith("make deploy ENV=test STACK=bus")


@pytest.mark.parametrize("regions", [REGIONS[:1], REGIONS[1:]])
@pytest.mark.parametrize("verb", ["plan", "status", "follow", "preview_deletion"])
def test_a_single_region_of_a_stack_set_cannot_be_chosen(sets, regions, verb):
    w = sets()
    refs = w.environment.choose(None, regions[0])
    with pytest.raises(ToolError):
        getattr(deployer.create(w.aws, refs), verb)


def test_an_account_added_to_the_environment_gets_its_stacks(sets):
    sets(accounts=ACCOUNTS[:1]).deploy()
    w = sets()
    assert [plan.settings for plan in w.plan()] == [
        (f"stacks of {ACCOUNTS[1]} in {', '.join(REGIONS)}",)
    ]
    calls = w.record_calls("create_stack_instances")
    assert [one.outcome for one in w.deploy()] == ["updated"]
    assert [(call["Accounts"], call["Regions"]) for _, call in calls] == [
        ([ACCOUNTS[1]], [*REGIONS])
    ]
    assert [plan.changes for plan in w.plan()] == [False]


def test_deletion_covers_units_that_the_environment_no_longer_names(sets):
    w = by_unit(sets, unit="ou-abcd-87654321")
    (preview,) = w.deployer().preview_deletion()
    assert len(preview.deleted) == len(ACCOUNTS) * len(REGIONS)
    assert [one.outcome for one in w.delete()] == ["deleted"]
    (name, call), (last, _) = w.calls
    assert (name, last) == ("delete_stack_instances", "delete_stack_set")
    assert call["DeploymentTargets"] == {"OrganizationalUnitIds": ["ou-abcd-87654321"]}


def test_a_stack_set_in_a_protected_environment_is_not_deleted(sets):
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
def test_an_operation_in_progress_is_followed(sets, action, ends, outcome):
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


def test_outdated_stacks_have_advice(sets):
    w = by_unit(sets)
    held = w.client.list_stack_instances()["Summaries"]
    w.answer("list_stack_instances", {"Summaries": [{**held[0], "Status": "OUTDATED"}]})
    (found,) = w.deployer().status()
    assert (found.status, found.advice) == ("1 OUTDATED", "make deploy ENV=test STACK=bus")


@pytest.mark.parametrize(
    ("concurrency", "tolerance", "mode"),
    [(5, 1, "SOFT"), (3, 1, "SOFT"), (2, 1, "STRICT"), (1, 0, "STRICT")],
)
def test_concurrency_and_tolerance_set_the_operation_preferences(
    sets, concurrency, tolerance, mode
):
    w = sets(concurrency=concurrency, failure_tolerance=tolerance)
    calls = w.record_calls("create_stack_instances")
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
def test_an_operation_is_followed_if_the_response_was_lost(sets, code, outcome):
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
