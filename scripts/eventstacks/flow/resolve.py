"""Resolve the parameters, conditions and intrinsic functions of a template as far as they are known.

A value that only AWS knows becomes a symbol (``flow.symbols``).
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from eventstacks.flow.symbols import as_dict, as_list, is_known, symbol_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NO_VALUE = object()  # AWS::NoValue
_MAX_REFERENCES = 50  # nested references; a guess: more than templates have, within Python's stack
_VARIABLE = re.compile(r"\$\{(!?)([^${}]+)\}")

# type: (property with the name, Ref, ARN). {n}: name, {f}: what precedes the name in the ARN,
# {id}: a suffix that AWS generates. Source: CloudFormation reference, "Return values" of each type.
_ARN = "arn:{p}:%s:{r}:{a}:%s"
_MACHINE = _ARN % ("states", "stateMachine:{f}{n}")
_TYPES = {
    "AWS::AppSync::GraphQLApi": ("", "{arn}", _ARN % ("appsync", "apis/{n}")),
    "AWS::Batch::JobDefinition": (
        "JobDefinitionName",
        "{arn}",
        _ARN % ("batch", "job-definition/{n}:{id}"),
    ),
    "AWS::Batch::JobQueue": ("JobQueueName", "{arn}", _ARN % ("batch", "job-queue/{n}")),
    "AWS::CloudTrail::Trail": ("TrailName", "{n}", _ARN % ("cloudtrail", "trail/{n}")),
    "AWS::CodeBuild::Project": ("Name", "{n}", _ARN % ("codebuild", "project/{n}")),
    "AWS::CodePipeline::Pipeline": ("Name", "{n}", _ARN % ("codepipeline", "{n}")),
    "AWS::DynamoDB::Table": ("TableName", "{n}", _ARN % ("dynamodb", "table/{n}")),
    "AWS::ECS::Cluster": ("ClusterName", "{n}", _ARN % ("ecs", "cluster/{n}")),
    "AWS::ECS::TaskDefinition": ("Family", "{arn}", _ARN % ("ecs", "task-definition/{n}:{id}")),
    "AWS::Events::ApiDestination": ("Name", "{n}", _ARN % ("events", "api-destination/{n}/{id}")),
    "AWS::Events::Archive": ("ArchiveName", "{n}", _ARN % ("events", "archive/{n}")),
    "AWS::Events::Connection": ("Name", "{n}", _ARN % ("events", "connection/{n}")),
    "AWS::Events::EventBus": ("Name", "{n}", _ARN % ("events", "event-bus/{n}")),
    "AWS::Events::Rule": ("Name", "{n}", _ARN % ("events", "rule/{f}{n}")),
    "AWS::IAM::Role": ("RoleName", "{n}", "arn:{p}:iam::{a}:role/{f}{n}"),
    "AWS::KMS::Alias": ("AliasName", "{n}", _ARN % ("kms", "{n}")),
    "AWS::KMS::Key": ("", "{n}", _ARN % ("kms", "key/{n}")),
    "AWS::KMS::ReplicaKey": ("", "{n}", _ARN % ("kms", "key/{n}")),
    "AWS::Kinesis::Stream": ("Name", "{n}", _ARN % ("kinesis", "stream/{n}")),
    "AWS::KinesisFirehose::DeliveryStream": (
        "DeliveryStreamName",
        "{n}",
        _ARN % ("firehose", "deliverystream/{n}"),
    ),
    "AWS::Lambda::Alias": ("Name", "{arn}", _ARN % ("lambda", "function:{f}{n}")),
    "AWS::Lambda::Function": ("FunctionName", "{n}", _ARN % ("lambda", "function:{n}")),
    "AWS::Logs::LogGroup": ("LogGroupName", "{n}", _ARN % ("logs", "log-group:{n}:*")),
    "AWS::S3::Bucket": ("BucketName", "{n}", "arn:{p}:s3:::{n}"),
    "AWS::SNS::Topic": ("TopicName", "{arn}", _ARN % ("sns", "{n}")),
    "AWS::SQS::Queue": ("QueueName", "https://sqs.{r}.{u}/{a}/{n}", _ARN % ("sqs", "{n}")),
    "AWS::Serverless::Function": ("FunctionName", "{n}", _ARN % ("lambda", "function:{n}")),
    "AWS::Serverless::StateMachine": ("Name", "{arn}", _MACHINE),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", "{arn}", _MACHINE),
    "AWS::StepFunctions::StateMachineAlias": ("Name", "{arn}", _MACHINE),
    "AWS::StepFunctions::StateMachineVersion": ("", "{arn}", _MACHINE),
}
# type: (property, what precedes the part that is wanted, what follows it).
_PARENTS = {
    "AWS::Lambda::Alias": ("FunctionName", ":function:", ""),
    "AWS::StepFunctions::StateMachineAlias": ("DeploymentPreference", ":stateMachine:", ":"),
    "AWS::StepFunctions::StateMachineVersion": ("StateMachineArn", ":stateMachine:", ""),
}
_PSEUDO = {"p": "Partition", "r": "Region", "a": "AccountId", "u": "URLSuffix"}


def partition_of(region: str) -> str:
    """Return the partition of a Region by the prefix of its name: ``aws`` or ``aws-cn``, for example."""
    prefix = re.match(r"(cn|us-gov|eusc|(?:us|eu)-iso[a-z]?)-", region)
    if not prefix:
        return "aws"
    isolated = re.fullmatch(r"..-iso(.?)", prefix[1])
    return f"aws-iso-{isolated[1]}".rstrip("-") if isolated else f"aws-{prefix[1]}"


@dataclass(frozen=True)
class Resource:
    """A resolved resource; ``name``, ``ref`` and ``arn`` contain symbols where only AWS knows them."""

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    name: str
    ref: str
    arn: str
    region: str = ""


@dataclass
class Stack:
    """A parsed template with the values it is deployed with.

    ``parameters``: strings as CloudFormation takes them (lists with commas), or callables that return
    one; a parameter that is not given has its Default, or is a symbol. ``physical``: logical ID →
    physical ID of a deployed stack. ``conditions``: forced results, whatever the parameters are.
    ``imports``: returns the value of an export, or None. ``scope``: prefix of the symbols (default:
    ``name``).
    """

    template: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    region: str = ""
    account: str = ""
    physical: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, bool] = field(default_factory=dict)
    imports: Callable[[str], Any] = lambda _: None
    scope: str = ""
    _active: set[str] = field(default_factory=set, init=False, repr=False)

    def symbol(self, text: str, *, is_open: bool = False) -> str:
        """Return the symbol of a value of this stack; ``is_open``: the value can be anything."""
        scope = self.scope or self.name
        name = f"{scope}.{text}" if scope and not text.startswith("AWS::") else text
        return symbol_of(f"{name}?" if is_open else name)

    # --- resources and outputs ---

    def resources(self) -> dict[str, Resource]:
        """Return the resources, without those whose condition is known to be false."""
        return {
            logical_id: self._resource(logical_id, raw)
            for logical_id, raw in self._section("Resources").items()
            if isinstance(as_dict(raw).get("Type"), str)
            and self.condition(raw.get("Condition")) is not False
        }

    def output(self, name: str) -> Any:
        """Return the value of an output; a symbol if the template has no such output."""
        declared = as_dict(self._section("Outputs").get(name))
        value = self._once(f"output {name}", partial(self.resolve, declared.get("Value")))
        return self.symbol(name, is_open=True) if value is None else value

    def export(self, name: str) -> Any:
        """Return the value of the output that is exported under a name, or None."""
        for output, raw in self._section("Outputs").items():
            own = as_dict(as_dict(raw).get("Export")).get("Name")
            resolve = partial(self.resolve, own)
            if own is not None and self._once(f"export {output}", resolve) == name:
                return self.output(output)
        return None

    def arn(self, service: str, name: str) -> str:
        """Return the ARN of a resource in the stack's Region and account."""
        values = (self._pseudo(f"AWS::{key}") for key in ("Partition", "Region", "AccountId"))
        partition, region, account = values
        return f"arn:{partition}:{service}:{region}:{account}:{name}"

    def _once(self, key: str, find: Callable[[], Any]) -> Any:
        """Return what ``find`` returns; None for a circular reference or one nested too deeply."""
        if key in self._active or len(self._active) > _MAX_REFERENCES:
            return None
        self._active.add(key)
        try:
            return find()
        finally:
            self._active.discard(key)

    def _section(self, name: str) -> dict[str, Any]:
        return as_dict(self.template.get(name))

    def _raw(self, logical_id: str) -> dict[str, Any]:
        return as_dict(self._section("Resources").get(logical_id))

    def _type(self, logical_id: str) -> str:
        return str(self._raw(logical_id).get("Type", ""))

    def _resource(self, logical_id: str, raw: Mapping[str, Any]) -> Resource:
        properties = as_dict(self.resolve(raw.get("Properties")))
        return Resource(
            logical_id, raw["Type"], properties, *self._identify(logical_id), self.region
        )

    def _property(self, logical_id: str, key: str) -> Any:
        """Resolve one property: names are needed while other properties are not resolved yet."""
        raw = as_dict(self._raw(logical_id).get("Properties")).get(key)
        value = self._once(f"{logical_id}.{key}", partial(self.resolve, raw))
        return None if value is _NO_VALUE else value

    def _identify(self, logical_id: str) -> tuple[str, str, str]:
        """Return the name of a resource, its Ref and its ARN."""
        kind = self._type(logical_id)
        key, ref, arn = _TYPES.get(kind, ("", "{n}", ""))
        physical = self.physical.get(logical_id, "")
        if physical:
            name = re.split(r"[|]" if ref == "{n}" else r"[/:]", physical)[-1]
        else:
            given = self._property(logical_id, key) if key else None
            name = self.symbol(logical_id) if given is None else str(given)
        words = {short: self._pseudo(f"AWS::{long}") for short, long in _PSEUDO.items()}
        words |= {"n": name, "id": self.symbol(f"{logical_id}.id"), "f": ""}
        if kind == "AWS::Events::Rule":  # its bus is given by name or ARN
            bus = str(self._property(logical_id, "EventBusName") or "default")
            bus = bus.rsplit("event-bus/", 1)[-1]
            if bus != "default":
                words |= {"f": f"{bus}/", "bus": bus}
                ref = "{bus}|{n}"
        elif kind == "AWS::IAM::Role":
            words["f"] = str(self._property(logical_id, "Path") or "").lstrip("/")
        elif kind in _PARENTS:
            words["f"] = f"{self._parent(logical_id, *_PARENTS[kind])}:"
        if ref == "{arn}" and physical.startswith("arn:"):
            return name, physical, physical
        arn = arn.format(**words) if arn else self.symbol(f"{logical_id}.Arn")
        return name, ref.format(**words, arn=arn), arn

    def _parent(self, logical_id: str, key: str, start: str, end: str) -> str:
        """Return the name of the function or state machine that an alias or a version belongs to."""
        value = self._property(logical_id, key)
        if key == "DeploymentPreference":  # or RoutingConfiguration, a list of versions
            routes = as_list(self._property(logical_id, "RoutingConfiguration")) or [value]
            value = as_dict(routes[0]).get("StateMachineVersionArn")
        name = str(value).rsplit(start, 1)[-1]
        return name.rsplit(end, 1)[0] if end else name

    # --- values ---

    def resolve(self, value: Any) -> Any:
        """Return a value of the template resolved; AWS::NoValue removes a key or a list entry."""
        if isinstance(value, list):
            return [entry for entry in map(self.resolve, value) if entry is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(name, argument)] = value.items()
            if name == "Ref":
                return self._reference(str(argument))
            if str(name).startswith("Fn::"):
                return self._function(name[4:], argument)
        resolved = {key: self.resolve(entry) for key, entry in value.items()}
        return {key: entry for key, entry in resolved.items() if entry is not _NO_VALUE}

    def _reference(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name.startswith("AWS::"):
            return self._pseudo(name)
        if declared := as_dict(self._section("Parameters").get(name)):
            return self._parameter(name, declared)
        return self._identify(name)[1] if self._raw(name) else self.symbol(name, is_open=True)

    def _parameter(self, name: str, declared: Mapping[str, Any]) -> Any:
        kind = str(declared.get("Type", "String"))
        value = self.parameters.get(name, declared.get("Default"))
        value = value() if callable(value) else value
        # The value of an SSM parameter is in the account.
        if value is None or kind.startswith("AWS::SSM::Parameter::"):
            return self.symbol(name, is_open=True)
        text = _text(value)
        is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
        return [entry.strip() for entry in text.split(",")] if is_list else text

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
        """Evaluate a condition, given by name or as an expression; None if it is not known."""
        if condition is None:
            return True
        if isinstance(condition, str):
            if condition in self.conditions:
                return self.conditions[condition]
            declared = self._section("Conditions").get(condition, {})
            evaluate = partial(self.condition, declared)
            state: bool | None = self._once(f"condition {condition}", evaluate)
            return state
        if not isinstance(condition, dict) or len(condition) != 1:
            return None
        [(name, argument)] = condition.items()
        return self.condition(argument) if name == "Condition" else self._expression(name, argument)

    def _expression(self, name: str, argument: Any) -> bool | None:
        if not isinstance(argument, list):
            return None
        if name == "Fn::Equals":
            values = [self.resolve(operand) for operand in argument]
            same = len({_text(operand) for operand in values}) == 1
            return True if same else False if is_known(values) else None
        states = [self.condition(operand) for operand in argument] or [None]
        if name == "Fn::Not":
            return None if states[0] is None else not states[0]
        decisive = name == "Fn::Or"  # one operand with this state decides
        return decisive if decisive in states else None if None in states else not decisive

    def _if(self, argument: Any) -> Any:
        name, *branches = argument
        state = self.condition(name)
        if state is not None:
            return self.resolve(branches[0 if state else 1])
        first, second = (self.resolve(branch) for branch in branches)
        return first if first == second else self.symbol(f"If {name}", is_open=True)

    def _function(self, name: str, argument: Any) -> Any:
        """Return a symbol if an index or a key is one, or if CloudFormation would refuse the call."""
        unresolved: dict[str, Callable[[Any], Any]] = {
            "If": self._if,
            "Sub": self._substitute,
            "GetAtt": self._get_attribute,
        }
        given = argument if name in unresolved else self.resolve(argument)
        try:
            value = unresolved[name](given) if name in unresolved else _FUNCTIONS[name](self, given)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            value = None
        label = f"{name} {given}" if isinstance(given, str) else name
        return self.symbol(label, is_open=True) if value is None else value

    def _get_attribute(self, argument: Any) -> Any:
        path = argument if isinstance(argument, str) else ".".join(map(str, argument))
        return self._attribute(*path.partition(".")[::2])

    def _attribute(self, logical_id: str, attribute: str) -> Any:
        name, ref, arn = self._identify(logical_id)
        if self._type(logical_id) in _TYPES:
            if attribute in {"Arn", "TopicArn", "FunctionArn"}:
                return arn
            if attribute == "ArnForPolicy":  # of an API destination: without the ID
                return arn.rpartition("/")[0] if arn.count("/") > 1 else arn
            if attribute == "GraphQLEndpointArn":
                return self.arn("appsync", f"endpoints/graphql-api/{name}")
            if attribute.endswith("Name") and "Domain" not in attribute:
                return name
        return ref if attribute == "QueueUrl" else self.symbol(f"{logical_id}.{attribute}")

    def _substitute(self, argument: Any) -> str:
        text, given = argument if isinstance(argument, list) else (argument, {})

        def replace(match: re.Match[str]) -> str:
            literal, name = match[1], match[2].strip()
            if literal:
                return f"${{{name}}}"
            if name in given:
                return _text(self.resolve(given[name]))
            logical_id, dot, attribute = name.partition(".")
            return _text(self._attribute(logical_id, attribute) if dot else self._reference(name))

        return _VARIABLE.sub(replace, str(text))


def _text(value: Any) -> str:
    """Return a value as CloudFormation writes it into a string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return "" if value is _NO_VALUE else str(value)


def _only_known(value: Any) -> Any:
    if not is_known(value):
        raise ValueError(value)
    return value


def _find_in_map(stack: Stack, given: Any) -> Any:
    def find() -> Any:
        return stack.resolve(stack.template["Mappings"][given[0]][given[1]][given[2]])

    return stack._once(f"map {given}", find)  # noqa: SLF001 - of this module


# The result of a function for its resolved argument; None or a lookup error becomes a symbol.
_FUNCTIONS: dict[str, Callable[[Stack, Any], Any]] = {
    "Join": lambda _, given: (
        given[0].join(map(_text, given[1])) if isinstance(given[1], list) else None
    ),
    "Select": lambda _, given: given[1][int(given[0])] if isinstance(given[1], list) else None,
    "Split": lambda _, given: _only_known(given[1]).split(given[0]),
    "FindInMap": _find_in_map,
    "Base64": lambda _, given: base64.b64encode(_only_known(given).encode()).decode(),
    "ToJsonString": lambda _, given: json.dumps(given, ensure_ascii=False, separators=(",", ":")),
    "ImportValue": lambda stack, given: stack._once(  # noqa: SLF001 - of this module
        f"import {given}", lambda: stack.imports(given)
    ),
}
