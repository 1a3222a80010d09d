"""Resolve parameters, conditions and intrinsic functions of a template as far as they are known.

A value that only AWS knows becomes a symbol (``flow.symbols``).
"""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from botocore.loaders import Loader

from eventstacks.documents import text_of
from eventstacks.flow.symbols import as_dict, as_list, at, is_known, symbol_of

_NO_VALUE = object()  # AWS::NoValue
_MAX_REFERENCES = 50  # nested references; a guess: more than templates have, within Python's stack
_VARIABLE = re.compile(r"\$\{(!?)([^${}]+)\}")

# type: (property with the name, Ref, ARN). {n}: name, {f}: what precedes the name in the ARN,
# {id}: a suffix that AWS generates, {bus}: what precedes the name of a rule in its Ref.
# Source: CloudFormation reference, "Return values" of each type.
_ARN = "arn:{p}:%s:{r}:{a}:%s"
_JOB = _ARN % ("batch", "job-definition/{n}:{id}")
_MACHINE = _ARN % ("states", "stateMachine:{f}{n}")
_TYPES = {
    "AWS::AppSync::GraphQLApi": ("", "{arn}", _ARN % ("appsync", "apis/{n}")),
    "AWS::Batch::JobDefinition": ("JobDefinitionName", "{arn}", _JOB),
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
    "AWS::Events::Rule": ("Name", "{bus}{n}", _ARN % ("events", "rule/{f}{n}")),
    "AWS::EventsV2::EventBus": ("Name", "{arn}", _ARN % ("events", "event-busv2/{n}/{id}")),
    "AWS::EventsV2::Subscriber": ("Name", "{arn}", _ARN % ("events", "subscriber/{n}/{id}")),
    "AWS::IAM::ManagedPolicy": ("ManagedPolicyName", "{arn}", "arn:{p}:iam::{a}:policy/{f}{n}"),
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
    "AWS::Pipes::Pipe": ("Name", "{n}", _ARN % ("pipes", "pipe/{n}")),
    "AWS::S3::Bucket": ("BucketName", "{n}", "arn:{p}:s3:::{n}"),
    "AWS::SNS::Topic": ("TopicName", "{arn}", _ARN % ("sns", "{n}")),
    "AWS::SQS::Queue": ("QueueName", "https://sqs.{r}.{u}/{a}/{n}", _ARN % ("sqs", "{n}")),
    "AWS::Serverless::Function": ("FunctionName", "{n}", _ARN % ("lambda", "function:{n}")),
    "AWS::Serverless::StateMachine": ("Name", "{arn}", _MACHINE),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", "{arn}", _MACHINE),
    "AWS::StepFunctions::StateMachineAlias": ("Name", "{arn}", _MACHINE),
    "AWS::StepFunctions::StateMachineVersion": ("", "{arn}", _MACHINE),
}
# type: property that names the function or the state machine.
_PARENTS = {
    "AWS::Lambda::Alias": "FunctionName",
    "AWS::StepFunctions::StateMachineAlias": "RoutingConfiguration",
    "AWS::StepFunctions::StateMachineVersion": "StateMachineArn",
}
_PSEUDO = {"p": "Partition", "r": "Region", "a": "AccountId", "u": "URLSuffix"}


@cache
def partition_of(region: str) -> tuple[str, str]:
    """Return the partition of a Region and its DNS suffix.

    ``aws`` for one that botocore does not know.
    """
    partitions = Loader().load_data("partitions")["partitions"]
    known = (one for one in partitions if re.match(one["regionRegex"], region))
    found = next(known, partitions[0])
    return found["id"], found["outputs"]["dnsSuffix"]


@dataclass(frozen=True)
class Resource:
    """A resolved resource.

    ``name``, ``ref`` and ``arn`` contain symbols where only AWS knows them.
    """

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

    ``parameters``: strings as CloudFormation takes them (lists with commas), or callables that
    return one; a parameter that is not given has its Default, or is a symbol. ``conditions``:
    forced results, whatever the parameters are. ``exporters``: the stacks whose exports it can
    import. ``scope``: prefix of the symbols (default: ``name``).
    """

    template: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    region: str = ""
    account: str = ""
    conditions: Mapping[str, bool] = field(default_factory=dict)
    exporters: Sequence["Stack"] = ()
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
            logical_id: Resource(
                logical_id,
                raw["Type"],
                as_dict(self.resolve(raw.get("Properties"))),
                *self._identify(logical_id),
                self.region,
            )
            for logical_id, raw in as_dict(self.template.get("Resources")).items()
            if isinstance(as_dict(raw).get("Type"), str)
            and self.condition(raw.get("Condition")) is not False
        }

    def output(self, name: str) -> Any:
        """Return the value of an output; a symbol if the template has no such output."""
        declared = self._declared("Outputs", name)
        value = self._once(f"output {name}", self.resolve, declared.get("Value"))
        return self.symbol(name, is_open=True) if value is None else value

    def export(self, name: str) -> Any:
        """Return the value of the output that is exported under a name, or None."""
        for output, raw in as_dict(self.template.get("Outputs")).items():
            if self._once(f"export {output}", self.resolve, at(raw, "Export.Name")) == name:
                return self.output(output)
        return None

    def arn(self, service: str, name: str) -> str:
        """Return the ARN of a resource in the stack's Region and account."""
        names = ("Partition", "Region", "AccountId")
        partition, region, account = (self._pseudo(f"AWS::{name}") for name in names)
        return f"arn:{partition}:{service}:{region}:{account}:{name}"

    def _once(self, key: str, find: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``find`` returns; None for a circular reference or one nested too deeply."""
        if key in self._active or len(self._active) > _MAX_REFERENCES:
            return None
        self._active.add(key)
        try:
            return find(*arguments)
        finally:
            self._active.discard(key)

    def _declared(self, section: str, name: str) -> dict[str, Any]:
        """Return what a section of the template has under a name."""
        return as_dict(as_dict(self.template.get(section)).get(name))

    def _type(self, logical_id: str) -> str:
        return str(self._declared("Resources", logical_id).get("Type", ""))

    def _property(self, logical_id: str, key: str) -> Any:
        """Resolve one property: names are needed while other properties are not resolved yet."""
        raw = as_dict(self._declared("Resources", logical_id).get("Properties")).get(key)
        value = self._once(f"{logical_id}.{key}", self.resolve, raw)
        return None if value is _NO_VALUE else value

    def _identify(self, logical_id: str) -> tuple[str, str, str]:
        """Return the name of a resource, its Ref and its ARN."""
        kind = self._type(logical_id)
        key, ref, arn = _TYPES.get(kind, ("", "{n}", ""))
        given = self._property(logical_id, key) if key else None
        name = self.symbol(logical_id) if given is None else str(given)
        words = {short: self._pseudo(f"AWS::{long}") for short, long in _PSEUDO.items()}
        words |= {"n": name, "id": self.symbol(f"{logical_id}.id"), "f": "", "bus": ""}
        if kind == "AWS::Events::Rule":
            bus = str(self._property(logical_id, "EventBusName") or "default")
            bus = bus.rsplit("event-bus/", 1)[-1]  # given by name or ARN
            if bus != "default":
                words |= {"f": f"{bus}/", "bus": f"{bus}|"}
        elif kind == "AWS::SQS::Queue" and name == self.symbol(logical_id):
            is_fifo = str(self._property(logical_id, "FifoQueue")).lower() == "true"
            words["n"] = name = name + (".fifo" if is_fifo else "")
        elif kind in {"AWS::IAM::ManagedPolicy", "AWS::IAM::Role"}:
            words["f"] = str(self._property(logical_id, "Path") or "").lstrip("/")
        elif kind in _PARENTS:
            words["f"] = f"{self._parent(logical_id, _PARENTS[kind])}:"
        arn = arn.format(**words) if arn else self.symbol(f"{logical_id}.Arn")
        return name, ref.format(**words, arn=arn), arn

    def _parent(self, logical_id: str, key: str) -> str:
        """Return the name of the function or state machine of an alias or a version."""
        value = self._property(logical_id, key)
        if key == "RoutingConfiguration":  # a list of versions, or else DeploymentPreference
            routes = as_list(value) or [self._property(logical_id, "DeploymentPreference")]
            value = as_dict(routes[0]).get("StateMachineVersionArn")
        return re.split(":(?:function|stateMachine):", str(value))[-1].partition(":")[0]

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
        if declared := self._declared("Parameters", name):
            return self._parameter(name, declared)
        is_resource = self._declared("Resources", name)
        return self._identify(name)[1] if is_resource else self.symbol(name, is_open=True)

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
        partition, suffix = partition_of(self.region) if self.region else ("", "")
        known = {
            "AWS::Region": self.region,
            "AWS::AccountId": self.account,
            "AWS::StackName": self.name,
            "AWS::Partition": partition,
            "AWS::URLSuffix": suffix,
        }
        return known.get(name) or self.symbol(name)

    def condition(self, condition: Any) -> bool | None:  # noqa: PLR0911 - a case for each function
        """Evaluate a condition, given by name or as an expression; None if it is not known."""
        match condition:
            case None:
                return True
            case str() if condition in self.conditions:
                return self.conditions[condition]
            case str():
                declared = as_dict(self.template.get("Conditions")).get(condition, {})
                found: bool | None = self._once(f"condition {condition}", self.condition, declared)
                return found
            case {"Condition": name}:
                return self.condition(name)
            case {"Fn::Equals": [*operands]}:
                values = [self.resolve(operand) for operand in operands]
                is_same = len(set(map(_text, values))) == 1
                return is_same if is_same or is_known(values) else None
            case {"Fn::Not": [operand]}:
                state = self.condition(operand)
                return None if state is None else not state
            case {"Fn::Or": [_, *_] as operands} | {"Fn::And": [_, *_] as operands}:
                decisive = "Fn::Or" in condition  # one operand with this state decides
                states = [self.condition(operand) for operand in operands]
                if decisive in states:
                    return decisive
                return None if None in states else not decisive
        return None

    def _function(self, name: str, argument: Any) -> Any:
        """Return a symbol if an index or a key is one, or if CloudFormation refuses the call."""
        lazy = name in {"If", "Sub", "GetAtt"}  # which resolve their arguments themselves
        given = argument if lazy else self.resolve(argument)
        try:
            value = self._call(name, given)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            value = None
        label = f"{name} {given}" if isinstance(given, str) else name
        return self.symbol(label, is_open=True) if value is None else value

    def _call(self, name: str, given: Any) -> Any:  # noqa: C901, PLR0911 - a case for each function
        """Return the result of a function; None, or a lookup error, if it is not known."""
        match name:
            case "If":
                return self._if(*given)
            case "Sub":
                return self._substitute(*(given if isinstance(given, list) else (given, {})))
            case "GetAtt":
                path = given if isinstance(given, str) else ".".join(map(str, given))
                return self._attribute(*path.partition(".")[::2])
            case "Join" if isinstance(given[1], list):
                return given[0].join(map(_text, given[1]))
            case "Select" if isinstance(given[1], list):
                return given[1][int(given[0])]
            case "Split" if is_known(given[1]):
                return given[1].split(given[0])
            case "Base64" if is_known(given):
                return base64.b64encode(given.encode()).decode()
            case "ToJsonString":
                return json.dumps(given, ensure_ascii=False, separators=(",", ":"))
            case "FindInMap":
                value = self.template["Mappings"][given[0]][given[1]][given[2]]
                return self._once(f"map {given}", self.resolve, value)
            case "ImportValue":
                exports = (stack.export(given) for stack in self.exporters)
                found = (value for value in exports if value is not None)
                return self._once(f"import {given}", next, found, None)
        return None

    def _if(self, name: Any, first: Any, second: Any) -> Any:
        state = self.condition(name)
        if state is None:
            one, other = self.resolve(first), self.resolve(second)
            return one if one == other else self.symbol(f"If {name}", is_open=True)
        return self.resolve(first if state else second)

    def _attribute(self, logical_id: str, attribute: str) -> Any:
        name, ref, arn = self._identify(logical_id)
        kind = self._type(logical_id)
        known = {
            "ArnForPolicy": arn.rpartition("/")[0] if arn.count("/") > 1 else arn,  # without the ID
            "GraphQLEndpointArn": self.arn("appsync", f"endpoints/graphql-api/{name}"),
            "QueueUrl": ref,
            "StreamArn": f"{arn}/stream/{self.symbol(f'{logical_id}.StreamLabel')}",
        } | dict.fromkeys(("Arn", "TopicArn", "FunctionArn", "EventBusArn", "PolicyArn"), arn)
        if kind in _TYPES and attribute in known:
            return known[attribute]
        if kind in _TYPES and attribute.endswith("Name") and "Domain" not in attribute:
            return name
        return self.symbol(f"{logical_id}.{attribute}", is_open=not kind)

    def _substitute(self, text: Any, given: Any) -> str:
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
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return "" if value is _NO_VALUE else text_of(value)
