import pytest
from rendered import templates

from eventstacks import documents, environment, parameter_checks, rendering
from eventstacks.environment import EnvironmentFileError, OutputReference

GOOD = """
account: '111122223333'
regions: [us-east-1, eu-west-1]
prefix: dev-
tags: {environment: dev}
stacks:
  bus:
    parameters: {Days: 7, Names: [a, b], Loud: true}
  rules:
    template: bus
    regions: [us-east-1]
    tags: {team: orders}
    parameters:
      Days: {us-east-1: 3}
      BusArn: !Output bus.Arn@eu-west-1
"""
TEMPLATE = {
    "Parameters": {
        "Days": {
            "Type": "Number",
            "MinValue": 1,
            "MaxValue": 30,
            "Default": 1,
            "Description": "How long.",
        },
        "Names": {"Type": "CommaDelimitedList", "AllowedPattern": "[a-z]+", "Default": "a"},
        "Loud": {"Type": "String", "AllowedValues": ["true", "false"], "Default": "false"},
        "BusArn": {"Type": "String", "MinLength": 2, "MaxLength": 60, "Default": "xx"},
    },
    "Outputs": {"Arn": {"Value": "x"}},
}

ROLE = "arn:aws:iam::111122223333:role/deployer"
SETS, NOT_OF_SETS = (
    "stack_set: {organizational_units: [ou-a]}",
    "stack sets know nothing like it\nLeave it out.",
)


def load(tmp_path, text):
    (tmp_path / "dev.yaml").write_text(text)
    return environment.load("dev", tmp_path)


def test_an_environment_is_read_whole(tmp_path):
    dev = load(tmp_path, GOOD)
    assert (dev.name, dev.account, dev.prefix, dev.protect) == (
        "dev",
        "111122223333",
        "dev-",
        False,
    )
    bus, rules = dev.stacks["bus"], dev.stacks["rules"]
    assert (bus.stack_name, bus.template, bus.regions) == (
        "dev-bus",
        "bus",
        ("us-east-1", "eu-west-1"),
    )
    assert bus.values("us-east-1") == {"Days": "7", "Names": "a,b", "Loud": "true"}
    assert (rules.template, rules.tags) == ("bus", {"environment": "dev", "team": "orders"})
    assert rules.values("us-east-1") == {
        "Days": "3",
        "BusArn": OutputReference("bus", "Arn", "eu-west-1"),
    }
    parameter_checks.check_parameters(dev, templates(bus=TEMPLATE))


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("prefix:", "prefxi:", "prefxi", "unknown key; did you mean 'prefix'?"),
        (
            "    template: bus",
            "    tempalte: bus",
            "stacks.rules.tempalte",
            "did you mean 'template'?",
        ),
        ("'111122223333'", "111122223333", "account", "without quotes"),
        ("'111122223333'", "'1234'", "account", "not an account id"),
        ("regions: [us-east-1, eu-west-1]", "regions: []", "regions", "at least one region"),
        ("regions: [us-east-1, eu-west-1]", "regions: us-east-1", "regions", "a list belongs here"),
        ("[us-east-1, eu-west-1]", "[us-east-1, us-east-1]", "regions", "twice"),
        ("[us-east-1, eu-west-1]", "[us_east_1]", "regions", "not the name of a region"),
        ("prefix: dev-", "prefix: 1dev", "prefix", "cannot start a stack name"),
        ("  rules:", "  ru_les:", "stacks.ru_les", "is no stack name"),
        ("{environment: dev}", "{aws:x: dev}", "tags", "AWS's own"),
        ("{environment: dev}", "{environment: [dev]}", "tags.environment", "is no value"),
        (
            "bus.Arn@eu-west-1",
            "buss.Arn",
            "BusArn",
            "there is no other stack 'buss' in this environment; did you mean 'bus'?",
        ),
        ("bus.Arn@eu-west-1", "bus.Arn@ap-south-1", "BusArn", "bus is not deployed in ap-south-1"),
        ("bus.Arn@eu-west-1", "bus", "dev.yaml", "write !Output stack.OutputName"),
        ("{us-east-1: 3}", "{eu-west-1: 3}", "Days", "none for us-east-1"),
        ("{us-east-1: 3}", "{us-east-1: 3, eu-west-1: 4}", "Days", "not in eu-west-1"),
        ("prefix: dev-", "endpoint: ftp://x", "endpoint", "neither 'embedded' nor an http(s) URL"),
        ("prefix: dev-", "protect: maybe", "protect", "neither true nor false"),
        ("prefix: dev-", "protect: yes", "protect", "'yes' is neither true nor false"),
        ("[a, b]", "['a,b', c]", "stacks.bus.parameters.Names", "'a,b' holds a comma"),
        *(
            ("prefix: dev-", f"{SETS}\n{one}", f"dev.yaml: {one.split(':')[0]}", NOT_OF_SETS)
            for one in (
                f"role: {ROLE}",
                "notifications: [a]",
                "rollback_alarms: [a]",
                "rollback_minutes: 5",
            )
        ),
        *(
            (
                "!Output bus.Arn@eu-west-1",
                f"x\n    {one}\n{SETS}",
                f"stacks.rules.{one.split(':')[0]}",
                NOT_OF_SETS,
            )
            for one in (
                f"role: {ROLE}",
                "policy: {Statement: []}",
                "rollback_alarms: [a]",
                "rollback_minutes: 5",
            )
        ),
        ("prefix: dev-", "rollback_minutes: 181", "rollback_minutes", "0 to 180"),
        ("prefix: dev-", "profile: 7", "profile", "put it in quotes"),
        ("prefix: dev-", "stack_set: {permissions: ALL}", "stack_set.permissions", "neither"),
        ("prefix: dev-", "stack_set: {permissions: SELF_MANAGED}", "stack_set", "takes accounts"),
        ("prefix: dev-", "stack_set: {concurrency: 2}", "stack_set", "needs organizational_units"),
        ("prefix: dev-", "prefix: dev-\nprefix: dev-", "dev.yaml:5", "stands here twice"),
        ("prefix: dev-", "profile: !Output a.B", "profile", "!Output a.B is not text"),
        ("prefix: dev-", "profile: true", "profile", ": true is not text"),
        ("  rules:", "  true:", "stacks", "the key true is not text; put it in quotes"),
        ("{environment: dev}", "{~: dev}", "tags", "the key an empty value is not text"),
        (
            "Days: 7",
            "!Output rules.Arn : 7",
            "stacks.bus.parameters",
            "the key !Output rules.Arn is not text",
        ),
        ("'111122223333'", "'1111222233\u0663\u0663'", "account", "not an account id"),
        ("us-east-1, eu-west-1]", "us-east-\u0661]", "regions", "not the name of a region"),
        ("prefix: dev-", "protect: {}", "protect", "a mapping is neither"),
        ("Days: 7", "Days: ", "Days", "an empty value is no value"),
        (
            "Days: 7",
            "Days: {us-east-1: {}, eu-west-1: 1}",
            "Days.us-east-1",
            "a mapping is no value",
        ),
        (
            "prefix: dev-",
            "role: nonsense",
            "stacks.bus.role",
            "'nonsense' is not the ARN of a role",
        ),
        ("{environment: dev}", "{environment: ''}", "tags.environment", "a value of 1 to 256"),
        (
            "{environment: dev}",
            f"{{environment: {'x' * 257}}}",
            "tags.environment",
            "a value of 1 to 256",
        ),
        ("{environment: dev}", "{'': dev}", "tags.", "a name of 1 to 128"),
        ("prefix: dev-", "notifications: [a, ~]", "notifications", "an entry without a value"),
        *(
            (
                "prefix: dev-",
                f"stack_set: {{accounts: {one}}}",
                "stack_set.accounts",
                "a list belongs here",
            )
            for one in ("5", "true", "'111122223333'")
        ),
        (
            "prefix: dev-",
            "stack_set: {accounts: [[1]]}",
            "stack_set.accounts",
            "a list is not an account id",
        ),
        *(
            ("prefix: dev-", f"endpoint: '{one}'", "endpoint", "nor an http(s) URL")
            for one in (
                "http://",
                "http://a b",
                "http://a\tb",
                "http://[::1",
                "http://a:99999",
                "http://a:b",
                "http://:80",
                "https:a",
                "http://a:0",
            )
        ),
        *(
            ("    tags: {team: orders}", f"    policy: {one}", "stacks.rules.policy", words)
            for one, words in (
                ("text", "a mapping (key: value) belongs here"),
                ("[1]", "a mapping"),
                ("{}", "has a Statement"),
                ("{Statement: [{!Output bus.Arn : x}]}", "is JSON, and this cannot"),
                ("&p {Statement: *p}", "is JSON, and this cannot"),
                ("{Statement: [!Output bus.Arn]}", "which has no place for !Output bus.Arn"),
            )
        ),
        (
            "    tags: {team: orders}",
            "    policy: {Statement: !!set {a}}",
            "dev.yaml:12",
            "!!set is not known here",
        ),
    ],
)
def test_a_fault_is_named_with_file_and_key(tmp_path, old, new, place, words):
    assert old in GOOD
    with pytest.raises((EnvironmentFileError, documents.DocumentError)) as error:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert "dev.yaml" in error.value.where
    assert place in error.value.where
    assert words in str(error.value)


def test_only_true_and_false_are_booleans(tmp_path):
    said = [
        ("true", "true"),
        ("True", "true"),
        ("FALSE", "false"),
        *((one, one) for one in ("yes", "No", "NO", "on")),
    ]
    text = GOOD.replace(
        "{environment: dev}", f"{{{', '.join(f'{one}: {one}' for one in ('no', 'y', 'on'))}}}"
    )
    for one, value in said:
        dev = load(tmp_path, text.replace("Loud: true", f"Loud: {one}"))
        assert dev.stacks["bus"].parameters["Loud"] == value
    assert dev.tags == {"no": "no", "y": "y", "on": "on"}


def test_a_second_copy_of_everything_is_not_protected(tmp_path):
    copy = load(tmp_path, GOOD.replace("prefix: dev-", "prefix: dev-\nprotect: true")).prefixed(
        "demo-"
    )
    assert (copy.prefix, copy.stacks["bus"].stack_name, copy.protect) == (
        "demo-dev-",
        "demo-dev-bus",
        False,
    )


@pytest.mark.parametrize("allowed", [[True, False], ["true", "false"], [1.5, True]])
def test_values_that_a_template_allows_are_text(allowed):
    assert parameter_checks.refusal({"AllowedValues": allowed}, "true") is None
    assert "is not one of" in parameter_checks.refusal({"AllowedValues": allowed}, "True")


def test_a_policy_is_as_aws_gives_it_back_and_its_version_no_day(tmp_path):
    text = GOOD.replace(
        "tags: {team: orders}", "policy: {Version: 2012-10-17, Statement: [{1: x, N: .nan}]}"
    )
    assert load(tmp_path, text).stacks["rules"].policy == {
        "Version": "2012-10-17",
        "Statement": [{"1": "x", "N": ".nan"}],
    }


def test_parameters_can_be_merged(tmp_path):
    text = GOOD.replace("parameters: {", "parameters: &common {").replace(
        "      Days: {us", "      <<: *common\n      Days: {us"
    )
    values = load(tmp_path, text).stacks["rules"].values("us-east-1")
    assert (values["Days"], values["Names"]) == ("3", "a,b")


@pytest.mark.parametrize("name", ["x" * 300, "folder", "", "sub/dev"])
def test_a_name_that_is_no_file_is_no_environment(tmp_path, name):
    (tmp_path / "folder.yaml").mkdir()
    load(tmp_path, GOOD)
    with pytest.raises(EnvironmentFileError, match=r"there is no environment .*\nThere are: dev\."):
        environment.load(name, tmp_path)


def test_an_environment_without_stacks_is_refused(tmp_path):
    with pytest.raises(EnvironmentFileError, match="without stacks"):
        load(tmp_path, "regions: [us-east-1]\n")


def test_a_missing_environment_lists_the_others(tmp_path):
    (tmp_path / "prod.yaml").write_text(GOOD)
    with pytest.raises(
        EnvironmentFileError,
        match=r"there is no environment 'prd'; did you mean 'prod'\?\nThere are: prod",
    ):
        environment.load("prd", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        (
            "Days: 7",
            "Dasy: 7",
            "stacks.bus.parameters.Dasy",
            "no such parameter; did you mean 'Days'?",
        ),
        ("Days: 7", "Days: 31", "stacks.bus.parameters.Days", "31 is more than 30"),
        ("Days: 7", "Days: 0", "stacks.bus.parameters.Days", "0 is less than 1"),
        ("Days: 7", "Days: week", "stacks.bus.parameters.Days", "'week' is not a number"),
        ("[a, b]", "[a, B]", "stacks.bus.parameters.Names", "'B' does not match [a-z]+"),
        (
            "Loud: true",
            "Loud: very",
            "stacks.bus.parameters.Loud",
            "'very' is not one of 'true', 'false'",
        ),
        ("!Output bus.Arn@eu-west-1", "x", "stacks.rules.parameters.BusArn", "shorter than 2"),
        ("!Output bus.Arn@eu-west-1", "x" * 61, "stacks.rules.parameters.BusArn", "longer than 60"),
        (
            "bus.Arn@eu-west-1",
            "bus.Anr@eu-west-1",
            "stacks.rules.parameters.BusArn",
            "no such output; did you mean 'Arn'?",
        ),
        (
            "template: bus",
            "template: bsu",
            "stacks.rules",
            "template 'bsu' not found; did you mean 'bus'?",
        ),
    ],
)
def test_values_are_held_to_the_template(tmp_path, old, new, place, words):
    assert old in GOOD
    dev = load(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(EnvironmentFileError) as error:
        parameter_checks.check_parameters(dev, templates(bus=TEMPLATE))
    assert error.value.where == f"{tmp_path / 'dev.yaml'}: {place}"
    assert words in error.value.what


@pytest.mark.parametrize(
    "rule",
    [
        {"AllowedPattern": "("},
        {"MinLength": "x"},
        {"MaxValue": [1], "Type": "Number"},
        {"AllowedValues": 5},
    ],
)
def test_a_rule_of_a_template_that_makes_no_sense_is_said_to_be_one(tmp_path, rule):
    template = {**TEMPLATE, "Parameters": {**TEMPLATE["Parameters"], "Days": rule}}
    with pytest.raises(
        EnvironmentFileError,
        match=r"the template 'bus': Parameters.Days: what it says about the value",
    ):
        parameter_checks.check_parameters(load(tmp_path, GOOD), templates(bus=template))


@pytest.mark.parametrize(
    "rule",
    [
        {"MinLength": 16},
        {"MaxLength": 3},
        {"AllowedPattern": "[a-z]+"},
        {"AllowedValues": ["x"]},
        {"Type": "Number"},
        {"Type": "Number", "MaxValue": 1},
    ],
)
def test_a_secret_is_in_no_message(rule):
    declared, value = {"NoEcho": True, **rule}, "7777" if "MaxValue" in rule else "hunter-2"
    assert value not in parameter_checks.refusal(declared, value)
    assert value in parameter_checks.refusal({**declared, "NoEcho": False}, value)


@pytest.mark.parametrize(
    "written", ["012345670123", "0123", "1.10", "12:30", "1_000", "+5", "0x1F"]
)
def test_a_number_that_yaml_reads_otherwise_is_refused(tmp_path, written):
    with pytest.raises(EnvironmentFileError, match="another one than it looks like") as error:
        load(tmp_path, GOOD.replace("Days: 7", f"Days: {written}"))
    assert error.value.where.endswith("stacks.bus.parameters.Days")
    assert (
        load(tmp_path, GOOD.replace("Days: 7", f"Days: '{written}'"))
        .stacks["bus"]
        .parameters["Days"]
        == written
    )
    assert (
        load(tmp_path, GOOD.replace("Days: 7", "Days: 1.5")).stacks["bus"].parameters["Days"]
        == "1.5"
    )


def test_a_parameter_without_default_must_be_given(tmp_path):
    template = {**TEMPLATE, "Parameters": {**TEMPLATE["Parameters"], "Topic": {"Type": "String"}}}
    with pytest.raises(EnvironmentFileError, match="needs a value for Topic"):
        parameter_checks.check_parameters(load(tmp_path, GOOD), templates(bus=template))


def test_choosing_stacks_and_regions(tmp_path):
    dev = load(tmp_path, GOOD)
    assert [(ref.stack, ref.region) for ref in dev.choose()] == [
        ("bus", "us-east-1"),
        ("bus", "eu-west-1"),
        ("rules", "us-east-1"),
    ]
    assert [(ref.stack, ref.region) for ref in dev.choose("bus", "eu-west-1")] == [
        ("bus", "eu-west-1")
    ]
    with pytest.raises(EnvironmentFileError, match="stack 'rule' not found"):
        dev.choose("rule")
    with pytest.raises(EnvironmentFileError, match="region 'eu-west-1' is not in this environment"):
        dev.choose("rules", "eu-west-1")


@pytest.mark.parametrize("name", ["local", "dev", "prod"])
def test_the_environments_of_the_checkout_fit_their_templates(name):
    parameter_checks.check_parameters(environment.load(name), rendering.render_all())
