"""The verb trace: what they print, and with which exit code."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from eventstacks.cli.flow import trace
from eventstacks.errors import ErrorCode, ToolError

ARTICLE = "tests/fixtures/article/custom-event-bus.yaml"
PLACED = "tests/events/custom-event-bus/order-placed.json"
S3 = "tests/events/s3-object-events/put-object.json"


@pytest.fixture
def run(capfd):
    """run(*arguments): exit code, stdout, stderr."""

    def invoke(*arguments, command=trace):
        code = command.main([str(one) for one in arguments], standalone_mode=False)
        out, err = capfd.readouterr()
        return code, out, err

    return invoke


@pytest.fixture
def event(tmp_path):
    path = tmp_path / "event.json"
    path.write_text(json.dumps({"source": "shop", "detail-type": "placed", "detail": {"a": 1}}))
    return path


def test_an_event_that_is_delivered(run, event):
    code, out, err = run(event, "--stack", "custom-event-bus")
    assert (code, err) == (0, "")
    assert "✓ rule CatchAllRule" in out
    assert "→ logs EventLogGroup: delivered" in out
    assert "✓ EventLogGroup[PutLogEvents]" in out
    assert "✓ archive Archive keeps it" in out
    assert "\x1b" not in out


def test_the_route_comes_first_and_the_event_on_request(run, tmp_path):
    text = f":key: [bold]{'x' * 500}"
    (tmp_path / "event.json").write_text(json.dumps({"source": "shop", "detail": {"text": text}}))
    options = [tmp_path / "event.json", "--stack", "custom-event-bus"]
    _, without, _ = run(*options)
    assert without.startswith("bus EventBus ")
    assert text not in without
    _, out, _ = run(*options, "--show-event")
    assert out.startswith(without)
    assert text in out.splitlines()[-1]  # in a pipe nothing is cut or changed


def test_control_characters_of_an_event_do_not_reach_the_terminal(run, tmp_path):
    path = tmp_path / "event.json"
    path.write_text(json.dumps({"source": "shop\x1b[31m\x9b", "detail": {"a": "\u202e"}}))
    _, out, _ = run(path, "--stack", "rds-snapshot-events", "--show-event")
    assert "shop" in out
    assert not {"\x1b", "\x9b", "\u202e"} & set(out)


def test_of_the_articles_stack_the_event_is_lost(run, event):
    code, out, _ = run(event, "--template", ARTICLE)
    assert code == 1
    assert "Log: lost" in out
    assert "no Logs resource policy allows events.amazonaws.com to call logs:PutLogEvents" in out
    assert "no dead-letter queue" in out


QUEUES = """
Parameters: {Elsewhere: {Type: String}}
Resources:
  Orders: {Type: AWS::SQS::Queue}
  Failed: {Type: AWS::SQS::Queue}
  Other: {Type: AWS::SQS::Queue}
  Policy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref %s]
      PolicyDocument:
        Statement:
          Effect: Allow
          Principal: {Service: events.amazonaws.com}
          Action: 'sqs:*'
          Resource: '*'
  Rule:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [shop]}
      Targets: [{Id: t, Arn: !GetAtt Orders.Arn, DeadLetterConfig: {Arn: %s}}]
"""
FAILED = "!GetAtt Failed.Arn"


@pytest.mark.parametrize(
    ("names", "lines"),
    [
        (
            ("Failed", FAILED),
            ["→ sqs Orders: sent to dead-letter queue Failed", "receives nothing"],
        ),
        (
            ("Other", FAILED),
            ["→ sqs Orders: lost", "✗ dead-letter queue Failed: no ", "receives nothing"],
        ),
        (
            ("Orders", FAILED),
            ["→ sqs Orders: delivered", "✗ dead-letter queue Failed: no ", "receives the event"],
        ),
        (
            ("Other", "!Ref Elsewhere"),
            [
                "→ sqs Orders: unknown",
                "? dead-letter queue ⟨queues.Elsewhere?⟩: ",
                "receives nothing",
            ],
        ),
    ],
)
def test_what_becomes_of_an_event_with_a_dead_letter_queue(run, event, tmp_path, names, lines):
    template = tmp_path / "queues.yaml"
    template.write_text(QUEUES % names)
    _, out, _ = run(event, "--template", template)
    found = [one.strip() for one in out.splitlines()]
    assert lines[0] in found
    assert all(any(one.startswith(line) for one in found) for line in lines)


def test_nothing_that_matches_is_a_failure_and_says_why(run, event):
    code, out, _ = run(event, "--stack", "rds-snapshot-events")
    assert code == 1
    assert 'source: "shop"; would match: "aws.rds"' in out


def test_the_articles_sender_names_a_bus_that_is_not_there(run, event):
    code, out, _ = run(event, "--bus", "MyCustomEventBus")
    assert code == 1
    assert "bus not found in us-east-1" in out


def test_a_record_without_its_stream_is_read_by_no_pipe(run, event):
    event.write_text('{"eventSource": "aws:dynamodb"}')
    code, out, _ = run(event, "--template", ARTICLE)
    assert code == 1
    assert "no pipe of these stacks is known to read it" in out


def test_one_json_document(run):
    code, out, err = run(S3, "--json")
    assert (code, err) == (0, "")
    [bus] = json.loads(out)["buses"]
    assert [one["fate"] for one in bus["rules"][0]["targets"]] == ["delivered", "delivered"]


def test_one_line_for_each_event(run, tmp_path):
    path = tmp_path / "events.ndjson"
    path.write_text('{"source": "shop"}\n{"source": "other", "account": "1"}\n')
    code, out, _ = run(path, "--ndjson", "--stack", "custom-event-bus")
    assert code == 1
    assert [json.loads(line)["buses"][0]["rules"][0]["matched"] for line in out.splitlines()] == [
        True,
        False,
    ]


def test_a_sample_that_takes_another_way_is_a_failure(run, tmp_path):
    folder = tmp_path / "custom-event-bus"
    folder.mkdir()
    sample = json.loads(Path(PLACED).read_text()) | {"expect": {}}
    (folder / "wrong.json").write_text(json.dumps(sample))
    code, _, err = run(folder / "wrong.json")
    assert code == 1
    assert "CatchAllRule matches unexpectedly" in err


def test_a_sample_that_expects_nothing_succeeds(run):
    assert run("tests/events/custom-event-bus/foreign-account.json")[0] == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--stack", "custom-event-bus", "--template", ARTICLE], click.UsageError),
        (["--parameter", "Name", "value"], click.UsageError),
    ],
)
def test_what_cannot_be_done_is_said(run, event, options, error):
    with pytest.raises(error):
        run(event, *options)


def test_a_file_that_is_no_text_is_named(run, tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ToolError, match="utf-8") as caught:
        run(tmp_path / "x.json", "--ndjson")
    assert caught.value.code == ErrorCode.DOCUMENT_INVALID
    assert caught.value.where == str(tmp_path / "x.json")


def test_a_file_of_lines_says_how_it_is_read(run, tmp_path):
    path = tmp_path / "events.ndjson"
    path.write_text('{"source": "shop"}\n{"source": "other"}\n')
    with pytest.raises(ToolError) as caught:
        run(path)
    assert caught.value.code == ErrorCode.EVENT_INVALID
    assert "--ndjson" in caught.value.advice
    path.write_text('{"source": "shop"')
    with pytest.raises(ToolError) as caught:
        run(path, "--ndjson")
    assert (caught.value.where, caught.value.advice) == (f"{path}:1", "")


def test_an_unknown_stack_is_named(run, event):
    with pytest.raises(ToolError, match="no-such"):
        run(event, "--stack", "no-such")


PARAMETERS = """
Parameters: {Sources: {Type: CommaDelimitedList, Default: carts}}
Resources:
  Rule:
    Type: AWS::Events::Rule
    Properties: {EventPattern: {source: !Ref Sources}, Targets: [{Id: q, Arn: !GetAtt Q.Arn}]}
  Q: {Type: AWS::SQS::Queue}
  P: {Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref Q], PolicyDocument: {Statement: [
    {Effect: Allow, Principal: '*', Action: 'sqs:SendMessage', Resource: '*'}]}}}
"""


def test_parameters_of_a_template(run, event, tmp_path):
    template = tmp_path / "t.yaml"
    template.write_text(PARAMETERS)
    assert run(event, "--template", template)[0] == 1
    assert run(event, "--template", template, "--parameter", "Sources", "carts,shop")[0] == 0
    with pytest.raises(ToolError) as caught:
        run(event, "--template", template, "--parameter", "Source", "shop")
    assert caught.value.code == ErrorCode.PARAMETER_INVALID
    assert "'Source'" in caught.value.what
    with pytest.raises(ToolError) as caught:
        run(event, "--stack", "custom-event-bus", "--parameter", "Source", "shop")
    assert caught.value.code == ErrorCode.PARAMETER_INVALID


def test_what_is_not_expanded_is_no_sure_answer(run, event, tmp_path):
    template = tmp_path / "t.yaml"
    template.write_text("Transform: MyMacro\nResources: {Q: {Type: AWS::SQS::Queue}}\n")
    code, out, _ = run(event, "--template", template)
    assert code == 1
    assert "? not expanded, can contain more rules: macro MyMacro" in out
    assert "no rule" not in out


def test_rules_of_several_stacks_with_one_logical_id_are_told_apart(run, tmp_path):
    path = tmp_path / "event.json"
    path.write_text('{"source": "aws.rds", "detail-type": "x"}')
    lines = [line for line in run(path)[1].splitlines() if "rule SnapshotRule" in line]
    assert len(lines) == len(set(lines)) > 1


def test_the_verb_has_examples():
    assert "Example" in CliRunner().invoke(trace, ["--help"]).output
