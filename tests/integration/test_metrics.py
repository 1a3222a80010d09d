"""metrics as an operator runs it, against a stack on the embedded AWS."""

import json
import subprocess
import sys
import time

import yaml
from operators import OTHER, REGION


def test_metrics_say_when_there_are_none(operate):
    one = operate("custom-event-bus")
    one.put("apple")
    done = one.run("metrics")
    assert (done.stdout, "CloudWatch has no metrics of these rules" in done.stderr) == ("", True)


def test_metrics_of_each_rule_are_summed(operate):
    one = operate("custom-event-bus")
    rule = one.outputs["CatchAllRuleArn"].rsplit("/", 1)[-1]
    dimensions = [{"Name": "EventBusName", "Value": one.bus}, {"Name": "RuleName", "Value": rule}]
    for name, value in {"MatchedEvents": 7, "InvocationsSentToDlq": 2}.items():
        for ago in (60, 3600):
            data = {
                "MetricName": name,
                "Dimensions": dimensions,
                "Value": value,
                "Timestamp": time.time() - ago,
            }
            one.client("cloudwatch").put_metric_data(Namespace="AWS/Events", MetricData=[data])
    (found,) = json.loads(one.run("metrics", "--json").stdout)
    assert found["rule"] == "CatchAllRule"
    sums = {name: values and values["sum"] for name, values in found["metrics"].items()}
    assert sums == {
        "MatchedEvents": 14,
        "Invocations": None,
        "FailedInvocations": None,
        "InvocationsSentToDlq": 4,
        "InvocationsFailedToBeSentToDlq": None,
    }
    row = one.run("metrics", "--since", "10m").stdout.splitlines()[1].split("\t")
    assert [row[0], *row[4:6], row[3].split()[-1], row[6].split()[-1]] == [
        "CatchAllRule",
        "-",
        "-",
        "7",
        "2",
    ]


def test_a_stack_that_is_named_has_to_be_deployed_in_all_its_regions(operate, endpoint, checkout):
    one = operate("custom-event-bus")
    stacks = {name: {"template": "custom-event-bus"} for name in ("other", one.name)}
    settings = {"endpoint": "embedded", "regions": [REGION, OTHER], "stacks": stacks}
    (checkout / "parameters/test.yaml").write_text(yaml.safe_dump(settings))

    def run(*options):
        command = [sys.executable, "-m", "eventstacks", "metrics", "--env", "test", *options]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=one.variables
        )

    everything, other, partly = run(), run("--stack", "other"), run("--stack", one.name)
    assert (everything.returncode, "no metrics" in everything.stderr) == (0, True)
    assert (other.returncode, "not deployed" in other.stderr) == (1, True)
    assert (
        partly.returncode,
        f"{one.name} in {OTHER}" in partly.stderr,
    ) == (1, True)
