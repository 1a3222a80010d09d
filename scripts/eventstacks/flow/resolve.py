"""What a template says once its parameters, conditions and intrinsic functions are resolved, as far as that is known.

What only AWS can know (the name of a bucket that has none, an account that nobody gave) stays a *symbol*: text like
``⟨Bucket⟩`` that is equal to itself. A symbol of a named stack reads ``⟨stack.Bucket⟩``. One that ends with a question
mark, like ``⟨Parameter?⟩``, may turn out to be anything; the others are names that AWS makes, no two alike.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SYMBOL = re.compile("⟨[^⟩]*⟩")
_NOTHING = object()  # AWS::NoValue
_LONGEST = 50  # names that hang on one another; a guess: more than anybody writes, and Python can still follow
_VARIABLE = re.compile(r"\$\{(!?)([^${}]+)\}")

# type: (the property that names it, what Ref gives, its ARN). Source: CloudFormation's "Return values" of each type.
_KINDS = {
    "AWS::Batch::JobQueue": ("JobQueueName", "{arn}", "arn:{p}:batch:{r}:{a}:job-queue/{n}"),
    "AWS::CloudTrail::Trail": ("TrailName", "{n}", "arn:{p}:cloudtrail:{r}:{a}:trail/{n}"),
    "AWS::CodeBuild::Project": ("Name", "{n}", "arn:{p}:codebuild:{r}:{a}:project/{n}"),
    "AWS::DynamoDB::Table": ("TableName", "{n}", "arn:{p}:dynamodb:{r}:{a}:table/{n}"),
    "AWS::ECS::Cluster": ("ClusterName", "{n}", "arn:{p}:ecs:{r}:{a}:cluster/{n}"),
    "AWS::Events::ApiDestination": (
        "Name",
        "{n}",
        "arn:{p}:events:{r}:{a}:api-destination/{n}/{id}",
    ),
    "AWS::Events::Archive": ("ArchiveName", "{n}", "arn:{p}:events:{r}:{a}:archive/{n}"),
    "AWS::Events::Connection": ("Name", "{n}", "arn:{p}:events:{r}:{a}:connection/{n}"),
    "AWS::Events::EventBus": ("Name", "{n}", "arn:{p}:events:{r}:{a}:event-bus/{n}"),
    "AWS::Events::Rule": ("Name", "{n}", "arn:{p}:events:{r}:{a}:rule/{n}"),
    "AWS::IAM::Role": ("RoleName", "{n}", "arn:{p}:iam::{a}:role/{n}"),
    "AWS::KMS::Alias": ("AliasName", "{n}", "arn:{p}:kms:{r}:{a}:{n}"),
    "AWS::KMS::Key": ("", "{n}", "arn:{p}:kms:{r}:{a}:key/{n}"),
    "AWS::Kinesis::Stream": ("Name", "{n}", "arn:{p}:kinesis:{r}:{a}:stream/{n}"),
    "AWS::KinesisFirehose::DeliveryStream": (
        "DeliveryStreamName",
        "{n}",
        "arn:{p}:firehose:{r}:{a}:deliverystream/{n}",
    ),
    "AWS::Lambda::Alias": ("Name", "{arn}", "arn:{p}:lambda:{r}:{a}:function:{n}"),
    "AWS::Lambda::Function": ("FunctionName", "{n}", "arn:{p}:lambda:{r}:{a}:function:{n}"),
    "AWS::Logs::LogGroup": ("LogGroupName", "{n}", "arn:{p}:logs:{r}:{a}:log-group:{n}:*"),
    "AWS::S3::Bucket": ("BucketName", "{n}", "arn:{p}:s3:::{n}"),
    "AWS::SNS::Topic": ("TopicName", "{arn}", "arn:{p}:sns:{r}:{a}:{n}"),
    "AWS::SQS::Queue": ("QueueName", "https://sqs.{r}.{u}/{a}/{n}", "arn:{p}:sqs:{r}:{a}:{n}"),
    "AWS::Serverless::Function": ("FunctionName", "{n}", "arn:{p}:lambda:{r}:{a}:function:{n}"),
    "AWS::Serverless::StateMachine": ("Name", "{arn}", "arn:{p}:states:{r}:{a}:stateMachine:{n}"),
    "AWS::StepFunctions::StateMachine": (
        "StateMachineName",
        "{arn}",
        "arn:{p}:states:{r}:{a}:stateMachine:{n}",
    ),
}

_WORDS = {"p": "Partition", "r": "Region", "a": "AccountId", "u": "URLSuffix"}


def symbol_of(text: str) -> str:
    """``⟨text⟩``, without what would break an ARN apart."""
    return f"⟨{re.sub('[:/|⟨⟩]+', '.', text)}⟩"


def is_known(value: Any) -> bool:
    """Whether a resolved value holds no symbol."""
    return not SYMBOL.search(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    )


def as_dict(value: Any) -> dict[str, Any]:
    """A mapping as it is, and anything else as an empty one: a template may say whatever it likes."""
    return value if isinstance(value, dict) else {}


def partition_of(region: str) -> str:
    """``aws``, ``aws-cn``, ``aws-us-gov`` …: the partition that a region's name tells."""
    found = re.match(r"(cn|us-gov|us-iso[a-z]*|eu-isoe|eusc)-", region)
    names = {
        "us-iso": "aws-iso",
        "us-isob": "aws-iso-b",
        "us-isof": "aws-iso-f",
        "eu-isoe": "aws-iso-e",
    }
    return names.get(found[1], f"aws-{found[1]}") if found else "aws"


@dataclass(frozen=True)
class Resource:
    """A resource of a stack, resolved; ``arn`` and ``ref`` hold symbols where only AWS knows the name."""

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    name: str
    ref: str
    arn: str
    region: str = ""


@dataclass
class Stack:
    """A parsed template (``documents.parse_template``) with the values that it is deployed with.

    ``parameters``: text, or the text of a list with commas, as CloudFormation takes them, or a callable that gives it;
    one that is not given has its Default, or is a symbol. ``physical``: logical id → physical id, where the stack is
    deployed. ``conditions``: what to take a condition for, whatever the parameters say. ``imports``: the value of an
    export, or None.
    """

    template: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    region: str = ""
    account: str = ""
    physical: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, bool] = field(default_factory=dict)
    imports: Callable[[str], Any] = lambda _: None
    scope: str = ""  # tells the symbols of this stack from those of others; default: its name
    _busy: set[str] = field(default_factory=set, init=False, repr=False)

    def symbol(self, text: str, *, is_open: bool = False) -> str:
        """The symbol for something of this stack that only AWS knows; ``is_open``: that may be anything."""
        scope = self.scope or self.name
        whole = f"{scope}.{text}" if scope and not text.startswith("AWS::") else text
        return symbol_of(f"{whole}?" if is_open else whole)

    # --- resources and outputs ---

    def resources(self) -> dict[str, Resource]:
        """The resources that exist: those whose condition is false are left out, those in doubt are not."""
        return {
            logical_id: self._resource(logical_id, raw)
            for logical_id, raw in self._section("Resources").items()
            if isinstance(as_dict(raw).get("Type"), str)
            and self.condition(raw.get("Condition")) is not False
        }

    def output(self, name: str) -> Any:
        """The value of an output; a symbol where the template has none of that name."""
        declared = as_dict(self._section("Outputs").get(name))
        value = self._once(f"output {name}", partial(self.resolve, declared.get("Value")))
        return self.symbol(name, is_open=True) if value is None else value

    def export(self, name: str) -> Any:
        """The output that is exported under a name, or None."""
        for output, raw in self._section("Outputs").items():
            own = as_dict(as_dict(raw).get("Export")).get("Name")
            if (
                own is not None
                and self._once(f"export {output}", partial(self.resolve, own)) == name
            ):
                return self.output(output)
        return None

    def arn(self, service: str, name: str) -> str:
        """The ARN of something in the stack's region and account."""
        partition, region, account = (
            self._pseudo(f"AWS::{one}") for one in ("Partition", "Region", "AccountId")
        )
        return f"arn:{partition}:{service}:{region}:{account}:{name}"

    def _once(self, mark: str, find: Callable[[], Any]) -> Any:
        """What ``find`` gives; None where that hangs on itself, which CloudFormation refuses, or on far too many."""
        if mark in self._busy or len(self._busy) > _LONGEST:
            return None
        self._busy.add(mark)
        try:
            return find()
        finally:
            self._busy.discard(mark)

    def _section(self, name: str) -> dict[str, Any]:
        return as_dict(self.template.get(name))

    def _raw(self, logical_id: str) -> dict[str, Any]:
        return as_dict(self._section("Resources").get(logical_id))

    def _type(self, logical_id: str) -> str:
        return str(self._raw(logical_id).get("Type", ""))

    def _resource(self, logical_id: str, raw: Mapping[str, Any]) -> Resource:
        return Resource(
            logical_id,
            raw["Type"],
            as_dict(self.resolve(raw.get("Properties"))),
            *self._identify(logical_id),
            self.region,
        )

    def _identify(self, logical_id: str) -> tuple[str, str, str]:
        """The name of a resource, what Ref gives, and the ARN."""

        def given(
            key: str,
        ) -> Any:  # one property alone: names are asked for while others are not resolved yet
            raw = as_dict(self._raw(logical_id).get("Properties")).get(key)
            value = self._once(f"{logical_id}.{key}", partial(self.resolve, raw))
            return None if value is _NOTHING else value

        kind = self._type(logical_id)
        key, ref, arn = _KINDS.get(kind, ("", "{n}", ""))
        if physical := self.physical.get(logical_id):
            name = re.split(r"[|]" if ref == "{n}" else r"[/:]", physical)[-1]
        else:
            name = self.symbol(logical_id) if not key or (own := given(key)) is None else str(own)
        words = {short: self._pseudo(f"AWS::{long}") for short, long in _WORDS.items()}
        words |= {"n": name, "id": self.symbol(f"{logical_id}.id")}
        folder = ""  # what stands before the name in the ARN
        if kind == "AWS::Events::Rule":  # its bus is given as a name or as an ARN
            words["bus"] = str(given("EventBusName") or "default").rsplit("event-bus/", 1)[-1]
            if words["bus"] != "default":
                folder, ref = f"{words['bus']}/", "{bus}|{n}"
        elif kind == "AWS::IAM::Role":
            folder = str(given("Path") or "").lstrip("/")
        elif kind == "AWS::Lambda::Alias":
            folder = str(given("FunctionName")).rsplit(":function:", 1)[-1] + ":"
        arn = (
            arn.format(**{**words, "n": folder + name}) if arn else self.symbol(f"{logical_id}.Arn")
        )
        return name, ref.format(**words, arn=arn), arn

    # --- values ---

    def resolve(self, value: Any) -> Any:
        """A value of the template with everything resolved; what AWS::NoValue takes away is gone."""
        if isinstance(value, list):
            return [one for one in map(self.resolve, value) if one is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name == "Ref":
                return self._reference(str(argument))
            if str(name).startswith("Fn::"):
                return self._function(name[4:], argument)
        resolved = {key: self.resolve(one) for key, one in value.items()}
        return {key: one for key, one in resolved.items() if one is not _NOTHING}

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name.startswith("AWS::"):
            return self._pseudo(name)
        if declared := as_dict(self._section("Parameters").get(name)):
            return self._parameter(name, declared)
        return self._identify(name)[1] if self._raw(name) else self.symbol(name, is_open=True)

    def _parameter(self, name: str, declared: Mapping[str, Any]) -> Any:
        kind = str(declared.get("Type", "String"))
        value = self.parameters.get(name, declared.get("Default"))
        value = value() if callable(value) else value
        if value is None or kind.startswith(
            "AWS::SSM::Parameter::"
        ):  # the latter's value is in the account
            return self.symbol(name, is_open=True)
        text = _text(value)
        is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
        return [one.strip() for one in text.split(",")] if is_list else text

    def _pseudo(self, name: str) -> Any:
        partition = partition_of(self.region) if self.region else ""
        suffix = {
            "aws": "amazonaws.com",
            "aws-us-gov": "amazonaws.com",
            "aws-cn": "amazonaws.com.cn",
        }.get(partition)
        known: dict[str, Any] = {
            "AWS::Region": self.region,
            "AWS::AccountId": self.account,
            "AWS::StackName": self.name,
            "AWS::Partition": partition,
            "AWS::URLSuffix": suffix,
            "AWS::NotificationARNs": [],
        }
        return known.get(name) or self.symbol(name)

    def condition(self, condition: Any) -> bool | None:
        """What a condition is, by its name or as an expression; None when that cannot be known."""
        if condition is None:
            return True
        if isinstance(condition, str):
            if condition in self.conditions:
                return self.conditions[condition]
            declared = self._section("Conditions").get(condition, {})
            state: bool | None = self._once(
                f"condition {condition}", partial(self.condition, declared)
            )
            return state
        if not isinstance(condition, dict) or len(condition) != 1:
            return None
        [(name, argument)] = condition.items()
        return self.condition(argument) if name == "Condition" else self._expression(name, argument)

    def _expression(self, name: str, argument: Any) -> bool | None:
        if not isinstance(argument, list):
            return None
        if name == "Fn::Equals":
            values = [self.resolve(one) for one in argument]
            same = len({_text(one) for one in values}) == 1
            return True if same else False if is_known(values) else None
        found = [self.condition(one) for one in argument] or [None]
        if name == "Fn::Not":
            return None if found[0] is None else not found[0]
        decisive = name == "Fn::Or"  # one of these decides, whatever the others are
        return decisive if decisive in found else None if None in found else not decisive

    def _if(self, argument: Any) -> Any:
        name, *branches = argument
        state = self.condition(name)
        if state is not None:
            return self.resolve(branches[0 if state else 1])
        first, second = (self.resolve(one) for one in branches)
        return first if first == second else self.symbol(f"If {name}", is_open=True)

    def _function(self, name: str, argument: Any) -> Any:
        """A symbol where an index or a key is one, and for what CloudFormation would refuse."""
        written: dict[str, Callable[[Any], Any]] = {
            "If": self._if,
            "Sub": self._substitute,
            "GetAtt": self._get,
        }
        given = argument if name in written else self.resolve(argument)
        try:
            value = written[name](given) if name in written else _FUNCTIONS[name](self, given)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            value = None
        said = f"{name} {given}" if isinstance(given, str) else name
        return self.symbol(said, is_open=True) if value is None else value

    def _get(self, argument: Any) -> Any:
        path = argument if isinstance(argument, str) else ".".join(map(str, argument))
        return self._attribute(*path.partition(".")[::2])

    def _attribute(self, logical_id: str, attribute: str) -> Any:
        name, ref, arn = self._identify(logical_id)
        if self._type(logical_id) in _KINDS:
            if attribute in ("Arn", "TopicArn", "FunctionArn"):
                return arn
            if attribute.endswith("Name") and "Domain" not in attribute:
                return name
        return ref if attribute == "QueueUrl" else self.symbol(f"{logical_id}.{attribute}")

    def _substitute(self, argument: Any) -> str:
        text, given = argument if isinstance(argument, list) else (argument, {})

        def replace(found: re.Match[str]) -> str:
            literal, name = found[1], found[2].strip()
            if literal:
                return f"${{{name}}}"
            if name in given:
                return _text(self.resolve(given[name]))
            logical_id, dot, attribute = name.partition(".")
            return _text(self._attribute(logical_id, attribute) if dot else self._reference(name))

        return _VARIABLE.sub(replace, str(text))


def _text(value: Any) -> str:
    """A value as CloudFormation puts it into text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return (
        ",".join(map(_text, value))
        if isinstance(value, list)
        else ""
        if value is _NOTHING
        else str(value)
    )


def _only_known(value: Any) -> Any:
    if not is_known(value):
        raise ValueError(value)
    return value


# What a function gives for its resolved argument; None, or an error of indexing, makes a symbol of it.
_FUNCTIONS: dict[str, Callable[[Stack, Any], Any]] = {
    "Join": lambda _, given: (
        given[0].join(map(_text, given[1])) if isinstance(given[1], list) else None
    ),
    "Select": lambda _, given: given[1][int(given[0])] if isinstance(given[1], list) else None,
    "Split": lambda _, given: _only_known(given[1]).split(given[0]),
    "FindInMap": lambda stack, given: stack._once(  # noqa: SLF001
        f"map {given}",
        lambda: stack.resolve(stack.template["Mappings"][given[0]][given[1]][given[2]]),
    ),
    "Base64": lambda _, given: base64.b64encode(_only_known(given).encode()).decode(),
    "ToJsonString": lambda _, given: json.dumps(given, ensure_ascii=False, separators=(",", ":")),
    "ImportValue": lambda stack, given: stack._once(  # noqa: SLF001 - of this module
        f"import {given}", lambda: stack.imports(given)
    ),
}
