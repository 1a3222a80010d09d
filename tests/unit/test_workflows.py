"""What a schema does not check in the workflows.

That they are pinned, may do little, and call what exists.
"""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from eventstacks import environment, rendering
from eventstacks.__main__ import cli

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


@pytest.fixture(params=FILES, ids=[one.stem for one in FILES])
def path(request):
    return request.param


@pytest.fixture
def workflow(path):
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # 'on' stays text


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def test_actions_are_pinned_by_commit_and_say_their_version(path):
    for line in path.read_text().splitlines():
        if (found := re.search(r"uses: (\S+)(.*)", line)) and not found[1].startswith("./"):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", found[1]), line
            assert re.fullmatch(r"  # v\d+\.\d+\.\d+", found[2]), line


def test_one_version_of_each_action():
    used = {
        use for one in FILES for use in re.findall(r"uses: ([\w-]+/[\w-]+@\S+)", one.read_text())
    }
    assert len({use.partition("@")[0] for use in used}) == len(used)


def test_permissions_are_named_and_write_only_what_is_needed(path, workflow):
    assert workflow["permissions"] in ({}, {"contents": "read"})
    allowed = {"plan": {"id-token", "pull-requests"}, "deploy": {"id-token"}}
    for name, job in workflow["jobs"].items():
        written = {what for what, how in job.get("permissions", {}).items() if how == "write"}
        assert written <= allowed.get(path.stem, set()), name
    assert "pull_request_target" not in workflow["on"]
    assert all(
        one["with"]["persist-credentials"] == "false"
        for one in steps(workflow)
        if "checkout" in one.get("uses", "")
    )


def test_nothing_that_others_write_gets_into_a_shell(workflow):
    assert [one["run"] for one in steps(workflow) if "${{" in one.get("run", "")] == []


def test_what_they_call_is_there(workflow):
    makefile = (ROOT / "Makefile").read_text()
    for step in steps(workflow):
        for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", "")):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for verb, option in re.findall(
            r"-m eventstacks ([a-z-]+) (--[a-z-]+)", step.get("run", "")
        ):
            assert option in CliRunner().invoke(cli, [verb, "--help"]).output


def test_they_ask_for_the_audience_that_the_roles_want():
    wanted = rendering.render("github-deploy-role").document["Resources"]["OidcProvider"][
        "Properties"
    ]["ClientIdList"]
    asked = [
        one["with"]["audience"]
        for file in FILES
        for one in steps(yaml.safe_load(file.read_text()))
        if "configure-aws-credentials" in one.get("uses", "")
    ]
    assert asked == wanted * 2


def test_variables_have_names_that_github_takes_and_go_by_them_everywhere():
    """Letters, digits and underscores (GitHub: Variables reference, naming conventions).

    A name cannot be put together.
    """
    texts = [one.read_text() for one in FILES]
    used = {name for text in texts for name in re.findall(r"\bvars\b(\W\w*)", text)}
    assert all(re.fullmatch(r"\.[A-Z][A-Z0-9_]*", name) for name in used), used
    page = (ROOT / "docs/stacks/github-deploy-role.md").read_text()
    named = {
        name
        for text in [page, (ROOT / "parameters/pipeline.yaml").read_text(), *texts]
        for name in re.findall(r"\bAWS_\w+", text)
    }
    assert named == {name.removeprefix(".") for name in used} == set(re.findall(r"\bAWS_\w+", page))


def test_what_the_page_sets_is_what_the_plan_looks_its_role_up_in():
    page = (ROOT / "docs/stacks/github-deploy-role.md").read_text()
    given = {
        name: value
        for name, value in re.findall(r"gh variable set (\w+) .*--body '(.+)'", page)
        if value[0] in "[{"
    }
    plan = yaml.safe_load((ROOT / ".github/workflows/plan.yaml").read_text())["jobs"]["plan"]
    (role,) = (
        one["with"]["role-to-assume"]
        for one in plan["steps"]
        if "role-to-assume" in one.get("with", {})
    )
    roles = re.fullmatch(r"\${{ fromJSON\(vars\.(\w+) \|\| '{}'\)\[matrix\.environment\] }}", role)
    matrix = re.fullmatch(
        r"\${{ fromJSON\(vars\.(\w+) \|\| '\[\]'\) }}", plan["strategy"]["matrix"]["environment"]
    )
    assert list(json.loads(given[roles[1]])) == json.loads(given[matrix[1]]) == ["dev"]


def test_every_python_that_is_allowed():
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest, newer = (
        int(minor) for minor in re.fullmatch(r">=3\.(\d+),<3\.(\d+)", allowed).groups()
    )
    test = yaml.safe_load((ROOT / ".github/workflows/test.yaml").read_text())["jobs"]["test"]
    assert test["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(oldest, newer)]
    assert (
        f"OLDEST, NEWER = (3, {oldest}), (3, {newer})"
        in (ROOT / "scripts/dev/install.py").read_text()
    )
    assert f"Python 3.{oldest} to 3.{newer - 1}" in (ROOT / "README.md").read_text()
    # What cfn-lint takes is known only once it is installed: pip reads it before.
    assert f"<3.{newer}" in importlib.metadata.metadata("cfn-lint")["Requires-Python"]


def test_hooks_call_the_same_targets():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    assert {one["entry"] for one in hooks} == {"make check", "make scan", "make test"}
    assert all(re.search(rf"^{one['id']}:", makefile, re.MULTILINE) for one in hooks)


def test_the_file_for_the_pipeline_is_about_an_environment_that_is_there():
    pipeline = environment.load("pipeline").stacks["dev-github-deploy-role"]
    target = environment.load(str(pipeline.parameters["GitHubEnvironment"]))
    assert target.prefix == pipeline.parameters["StackNamePrefix"]
    assert target.account == environment.load("pipeline").account
