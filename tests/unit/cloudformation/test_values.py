"""Values from outside the environment file: !Env, !Ssm, !Previous."""

import pytest
from scripted_aws import FakeAws, environment, stack
from scripted_cloudformation import refusal

from eventstacks.cloudformation import change_set, outputs, plan
from eventstacks.environment import Source
from eventstacks.errors import ErrorCode, ToolError


class Ssm:
    calls = 0

    def get_parameter(self, Name, WithDecryption):  # noqa: N803 - boto3's names
        self.calls += 1
        assert WithDecryption
        if Name != "/key":
            raise refusal("ParameterNotFound", "", 400)
        return {"Parameter": {"Value": "from-ssm"}}


@pytest.fixture
def resolve():
    def resolve(**values):
        aws = FakeAws(environment(stack(parameters=values)), None)
        aws.fakes["ssm", "us-east-1"] = ssm = Ssm()
        found = outputs.Values(aws)
        (ref,) = aws.environment.choose()
        assert found.resolve(ref) == found.resolve(ref)
        assert ssm.calls <= 1
        return found.resolve(ref)

    return resolve


def test_each_source_is_looked_up(resolve, monkeypatch):
    monkeypatch.setenv("NAME", "from-env")
    found = resolve(
        A=Source("Env", "NAME"), B=Source("Ssm", "/key"), C=Source("Previous"), D="text"
    )
    assert (found["A"], found["B"], found["D"]) == ("from-env", "from-ssm", "text")
    settings, test = stack(), environment()
    held = {"StackStatus": "CREATE_COMPLETE", "Parameters": [{"ParameterKey": "C"}]}
    sent = plan.request(test, settings, {}, found, held, change_set.Options())
    assert sent["Parameters"][2:] == [
        {"ParameterKey": "C", "UsePreviousValue": True},
        {"ParameterKey": "D", "ParameterValue": "text"},
    ]
    with pytest.raises(ToolError) as error:
        plan.request(test, settings, {}, found, None, change_set.Options())
    assert (error.value.code, error.value.where) == (ErrorCode.PARAMETER_INVALID, "t-bus")


@pytest.mark.parametrize("source", [Source("Env", "NOT_SET"), Source("Ssm", "/none")])
def test_a_source_that_is_missing_is_an_error(resolve, source):
    with pytest.raises(ToolError) as error:
        resolve(A=source)
    assert error.value.code == ErrorCode.NOT_FOUND
    assert source.name in error.value.what
