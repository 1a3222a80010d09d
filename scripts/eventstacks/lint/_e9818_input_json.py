from eventstacks.flow.graph import Json, Rule, Target
from eventstacks.flow.payload import build, is_json
from eventstacks.flow.resolve import SYMBOL
from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View
from eventstacks.lint._view import FILLINGS


class InputJson(FlowRule):
    id = "E9818"
    shortdesc = "What a target receives must be JSON that it takes"
    description = (
        "Input is JSON; so is an InputTemplate once its variables are filled, and each of these must be defined. "
        "A log group wants timestamp and message. An event bus takes no InputTransformer."
    )
    source_url = f"{GUIDE}eb-transform-target-input.html"

    def check(self, view: View) -> Findings:
        for target in view.targets:
            given, transformer = target.node.get("Input"), target.node.get("InputTransformer")
            if given and isinstance(given.value, str) and not _can_be_json(given.value):
                yield (
                    given,
                    "PutTargets refuses an Input that is not JSON: put text in double quotes",
                )
            if transformer and ":event-bus/" in target.arn:
                yield (
                    transformer,
                    "PutTargets refuses an InputTransformer for a bus, which takes the whole event",
                )
            elif (
                transformer
                and (template := transformer.get("InputTemplate"))
                and (rule := view.rule_of(target.rule))
            ):
                problems = [_problem(rule, target.arn, transformer.value, by) for by in FILLINGS]
                if all(problems):
                    yield template, problems[0]


def _can_be_json(text: str) -> bool:
    return any(is_json(SYMBOL.sub(filling, text)) for filling in FILLINGS)


def _problem(rule: Rule, arn: str, transformer: Json, filling: str) -> str:
    """What is wrong once each variable holds the text "x"; ``filling``: what symbols stand for."""
    template, paths = transformer.get("InputTemplate"), transformer.get("InputPathsMap") or {}
    if not isinstance(template, str) or not isinstance(paths, dict):
        return ""
    settings = {
        "InputTemplate": SYMBOL.sub(filling, template),
        "InputPathsMap": dict.fromkeys(paths, "$.x"),
    }
    made = build(rule, Target("", arn, {"InputTransformer": settings}), {"x": "x"})
    if made.problem or not made.text.lstrip().startswith(("{", "[")) or is_json(made.text):
        return made.problem
    return "the InputTemplate is not JSON once its variables are filled: check its quotes, commas and brackets"
