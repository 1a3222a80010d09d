"""Environment files: what is read, and the errors of what is invalid."""

import jsonschema
import pytest
from environment_files import GOOD, load

from eventstacks import environment
from eventstacks.environment import OutputReference, Source
from eventstacks.errors import ErrorCode, ToolError


def test_an_environment_file_is_read(tmp_path):
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
        ["us-east-1", "eu-west-1"],
    )
    assert dev.ref("bus", "us-east-1").values() == {"Days": "7", "Names": "a,b", "Loud": "true"}
    assert (rules.template, rules.tags) == ("bus", {"environment": "dev", "team": "orders"})
    assert dev.ref("rules", "us-east-1").values() == {
        "Days": "3",
        "BusArn": OutputReference("bus", "Arn", "eu-west-1"),
    }


def test_a_tag_of_a_stack_wins_over_that_of_the_environment(tmp_path):
    dev = load(tmp_path, GOOD.replace("tags: {team: orders}", "tags: {environment: shared}"))
    assert dev.stacks["rules"].tags == {"environment": "shared"}
    assert dev.stacks["bus"].tags == {"environment": "dev"}


A_REGION = "expected a Region such as us-east-1"
URL = "expected 'embedded' or an http(s) URL"
# What is replaced in GOOD, by what; the key (after file and line), and words of the error.
FAULTS = [
    ("prefix:", "prefxi:", ": prefxi", "unknown key; did you mean 'prefix'?"),
    (
        "    template: bus",
        "    tempalte: bus",
        ": stacks.rules.tempalte",
        "did you mean 'template'?",
    ),
    ("'111122223333'", "111122223333", ": account", "an account ID of 12 digits, in quotes"),
    ("'111122223333'", "'1234'", "account", 'not "1234"'),
    ("regions: [us-east-1, eu-west-1]", "regions: []", ": regions", "at least one"),
    ("regions: [us-east-1, eu-west-1]", "regions: us-east-1", "regions", "expected a list"),
    ("regions: [us-east-1, eu-west-1]", "x-r: 1", "dev.yaml", "'regions' is a required"),
    ("[us-east-1, eu-west-1]", "[us-east-1, us-east-1]", "regions", "none twice"),
    ("[us-east-1, eu-west-1]", "[us_east_1]", ": regions.0", A_REGION),
    ("prefix: dev-", "prefix: 1dev", "prefix", "expected the start of a stack name"),
    ("  rules:", "  ru_les:", ": stacks.ru_les", "expected a stack name"),
    ("{environment: dev}", "{aws:x: dev}", ": tags.aws:x", "does not start with aws:"),
    ("{environment: dev}", "{environment: [dev]}", "tags.environment", "expected a string"),
    ("bus.Arn@eu-west-1", "buss.Arn", "BusArn", "no other stack 'buss'; did you mean 'bus'?"),
    ("bus.Arn@eu-west-1", "rules.Arn", "BusArn", "no other stack 'rules'"),
    ("bus.Arn@eu-west-1", "bus.Arn@ap-south-1", "BusArn", "bus is not deployed in ap-south-1"),
    ("bus.Arn@eu-west-1", "bus", "dev.yaml:15", "write !Output stack.Name"),
    ("!Output bus.Arn@eu-west-1", "!Env", "dev.yaml:15", "write !Output stack.Name"),
    ("!Output bus.Arn@eu-west-1", "!Previous x", "dev.yaml:15", "write !Output stack.Name"),
    ("{us-east-1: 3}", "{eu-west-1: 3}", "Days", "a value for each Region of the stack"),
    (
        "{us-east-1: 3}",
        "{us-east-1: 3, eu-west-1: 4}",
        "Days",
        "a value for each Region of the stack: us-east-1",
    ),
    ("{us-east-1: 3}", "{a: 3}", ": stacks.rules.parameters.Days.a", A_REGION),
    ("prefix: dev-", "endpoint: ftp://x", "endpoint", URL),
    ("prefix: dev-", "protect: maybe", "protect", 'expected true or false, not "maybe"'),
    ("prefix: dev-", "protect: yes", "protect", 'expected true or false, not "yes"'),
    ("prefix: dev-", "protect: True", "protect", 'expected true or false, not "True"'),
    ("[a, b]", "['a,b', c]", "stacks.bus.parameters.Names", "a string without a comma"),
    ("[a, b]", "[!Output rules.Arn]", "stacks.bus.parameters.Names", "!Output rules.Arn"),
    ("[a, b]", "[[a]]", "stacks.bus.parameters.Names.0", "expected a string without a comma"),
    ("prefix: dev-", "rollback_minutes: 181", "rollback_minutes", "0 to 180, not 181"),
    ("prefix: dev-", "profile: 7", "profile", "expected the name of a profile, not 7"),
    ("prefix: dev-", "stack_set: {accounts: []}", ": stack_set", "unknown key"),
    ("prefix: dev-", "prefix: dev-\nprefix: dev-", "dev.yaml:5:1", "duplicate key 'prefix'"),
    ("prefix: dev-", "profile: !Output a.B", "profile", "not"),
    ("prefix: dev-", "profile: true", "profile", "not true"),
    ("  rules:", "  true:", "dev.yaml:9:3", "the key 'true' is of type bool in YAML; quote it"),
    ("{environment: dev}", "{~: dev}", "dev.yaml:5", "in YAML; quote it"),
    ("Days: 7", "!Output rules.Arn : 7", "dev.yaml:8", "in YAML; quote it"),
    ("'111122223333'", "'1111222233\u0663\u0663'", "account", "12 digits"),
    ("us-east-1, eu-west-1]", "us-east-\u0661]", "regions", A_REGION),
    ("prefix: dev-", "protect: {}", "protect", "not {}"),
    ("Days: 7", "Days: ", ": stacks.bus.parameters.Days", "not null"),
    ("Days: 7", "Days: {us-east-1: {}, eu-west-1: 1}", "Days.us-east-1", "not {}"),
    ("prefix: dev-", "role: nonsense", ": role", "the ARN of an IAM role"),
    ("{environment: dev}", "{environment: ''}", "tags.environment", "1 to 256 characters"),
    ("{environment: dev}", f"{{environment: {'x' * 257}}}", "tags.environment", "xxx"),
    ("{environment: dev}", "{'': dev}", "tags.", "a tag name of 1 to 128"),
    ("prefix: dev-", "notifications: [a, ~]", "notifications", "an SNS topic ARN"),
    *(
        ("prefix: dev-", f"endpoint: '{one}'", ": endpoint", URL)
        for one in (
            "http://",
            "http://a b",
            "http://a\tb",
            "http://[::1",
            "http://a:99999",
            "http://a:65536",
            "http://a:b",
            "http://:80",
            "https:a",
            "http://a:0",
        )
    ),
    ("    tags: {team: orders}", "    tags: {a: [{!Output bus.Arn : x}]}", "12", "quote it"),
    ("    tags: {team: orders}", "    tags: &p {a: *p}", "dev.yaml", "contains itself"),
    ("    tags: {team: orders}", "    tags: {a: !!set {a}}", "dev.yaml:12", "unknown tag !!set"),
    ("    tags: {team: orders}", "    x-team: orders", "stacks.rules.x-team", "unknown key"),
    ("{environment: dev}", "{environment: !Env USER}", "tags.environment", 'not "!Env USER"'),
    (
        "prefix: dev-",
        "\tprefix: dev-",
        "dev.yaml:4:1",
        "a tab; indent with spaces",
    ),
    ("    tags: {team: orders}", "    depends_on: [buss]", "stacks.rules.depends_on", "'bus'?"),
    ("    tags: {team: orders}", "    depends_on: [rules]", "stacks.rules.depends_on", "other"),
    ("    tags: {team: orders}", "    depends_on: bus", ": stacks.rules.depends_on", "a list"),
]


@pytest.mark.parametrize(("old", "new", "place", "words"), FAULTS)
def test_an_error_names_file_line_and_key(tmp_path, old, new, place, words):
    assert old in GOOD
    with pytest.raises(ToolError) as error:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert error.value.where.startswith(str(tmp_path / "dev.yaml"))
    assert error.value.code in {ErrorCode.ENVIRONMENT_INVALID, ErrorCode.DOCUMENT_INVALID}
    assert place in error.value.where
    assert words in str(error.value)


def test_the_schema_is_valid_and_every_rule_has_a_title():
    schema = environment.validator().schema
    jsonschema.Draft202012Validator.check_schema(schema)

    def untitled(node, path=""):
        if isinstance(node, dict):
            if node.keys() & {"type", "pattern", "enum", "not"} and not node.keys() & {
                "title",
                "const",
            }:
                yield path
            for key, one in node.items():
                yield from untitled(one, f"{path}/{key}") if key != "not" else ()

    assert list(untitled(schema)) == []


@pytest.mark.parametrize(
    "written",
    [
        "true",
        "false",
        "True",
        "FALSE",
        "yes",
        "No",
        "on",
        "0123",
        "1.10",
        "1e3",
        "12:30",
        "0x1F",
        "1_000",
        ".5",
        "7",
        "2.5",
    ],
)
def test_a_value_is_sent_as_it_is_written(tmp_path, written):
    dev = load(
        tmp_path, GOOD.replace("Loud: true", f"Loud: {written}").replace("[a, b]", f"[{written}]")
    )
    assert dev.ref("bus", "us-east-1").values() == {"Days": "7", "Names": written, "Loud": written}
    dev = load(tmp_path, GOOD.replace("environment: dev", f"on: {written}, 1: x"))
    assert dev.tags == {"on": written, "1": "x"}


def test_an_account_id_with_a_zero_is_not_read_as_an_octal_number(tmp_path):
    assert load(tmp_path, GOOD.replace("'111122223333'", "012345670123")).account == "012345670123"


def test_tags_for_values_from_outside_the_file(tmp_path):
    text = GOOD.replace(
        "{Days: 7, Names: [a, b], Loud: true}", "{A: !Env NAME, B: !Ssm /a/b, C: !Previous ''}"
    )
    assert load(tmp_path, text).ref("bus", "us-east-1").values() == {
        "A": Source("Env", "NAME"),
        "B": Source("Ssm", "/a/b"),
        "C": Source("Previous"),
    }


def test_depends_on_is_a_dependency_in_the_same_region_or_in_all(tmp_path):
    dev = load(tmp_path, GOOD.replace("    tags: {team: orders}", "    depends_on: [bus]"))
    west, east = dev.ref("bus", "eu-west-1"), dev.ref("bus", "us-east-1")
    assert dev.dependencies(dev.ref("rules", "us-east-1")) == {west, east}  # west: !Output
    text = GOOD.replace("  bus:\n", "  bus:\n    depends_on: [rules]\n")
    dev = load(tmp_path, text.replace("!Output bus.Arn@eu-west-1", "xx"))
    for region in ("us-east-1", "eu-west-1"):
        assert dev.dependencies(dev.ref("bus", region)) == {dev.ref("rules", "us-east-1")}


def test_keys_for_anchors_are_ignored(tmp_path):
    text = GOOD.replace("prefix: dev-", "x-common: &common {Days: 4}").replace(
        "Days: {us-east-1: 3}", "<<: *common"
    )
    assert load(tmp_path, text).ref("rules", "us-east-1").values()["Days"] == "4"


def test_parameters_can_be_merged(tmp_path):
    text = GOOD.replace("parameters: {", "parameters: &common {").replace(
        "      Days: {us", "      <<: *common\n      Days: {us"
    )
    values = load(tmp_path, text).ref("rules", "us-east-1").values()
    assert (values["Days"], values["Names"]) == ("3", "a,b")


@pytest.mark.parametrize("name", ["x" * 300, "folder", "", "sub/dev"])
def test_a_name_without_a_file_is_not_found(tmp_path, name):
    (tmp_path / "folder.yaml").mkdir()
    load(tmp_path, GOOD)
    with pytest.raises(ToolError, match=r"environment .* not found.*\nAvailable: dev\."):
        environment.load(name, tmp_path)


def test_an_environment_without_stacks_is_refused(tmp_path):
    with pytest.raises(ToolError, match="'stacks' is a required"):
        load(tmp_path, "regions: [us-east-1]\n")


def test_in_a_folder_without_environments_init_is_advised(tmp_path):
    with pytest.raises(ToolError, match="eventstacks init"):
        environment.load("local", tmp_path)


def test_a_missing_environment_lists_the_others(tmp_path):
    (tmp_path / "prod.yaml").write_text(GOOD)
    with pytest.raises(
        ToolError,
        match=r"environment 'prd' not found; did you mean 'prod'\?\nAvailable: prod",
    ):
        environment.load("prd", tmp_path)


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
    with pytest.raises(ToolError, match="stack 'rule' not found"):
        dev.choose("rule")
    with pytest.raises(ToolError, match="region 'eu-west-1' is not in this environment"):
        dev.choose("rules", "eu-west-1")


@pytest.mark.parametrize(
    ("make", "command"),
    [
        ("1", "make recover ENV=dev STACK=bus REGION=eu-west-1 ARGS='--skip A'"),
        ("", "eventstacks recover --env dev --stack bus --region eu-west-1 --skip A"),
    ],
)
def test_a_stack_reference_gives_commands_as_the_user_runs_them(
    tmp_path, monkeypatch, make, command
):
    monkeypatch.setenv("EVENTSTACKS_MAKE", make)
    ref = load(tmp_path, GOOD).ref("bus", "eu-west-1")
    assert ref.command("recover", "--skip", "A") == command
    assert (str(ref), ref.document()) == (
        "dev-bus in eu-west-1",
        {"stack": "bus", "stack_name": "dev-bus", "region": "eu-west-1"},
    )


def test_references_are_compared_without_their_settings(tmp_path):
    first = load(tmp_path, GOOD).ref("bus", "eu-west-1")
    second = load(tmp_path, GOOD.replace("Days: 7", "Days: 8")).ref("bus", "eu-west-1")
    assert {first: 1}[second] == 1
    assert first.values() != second.values()
