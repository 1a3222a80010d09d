from typing import Any

from eventstacks.flow.resolve import SYMBOL, is_known
from eventstacks.lint._rule import GUIDE, RULE, Findings, FlowRule, Node, View
from eventstacks.lint._view import FILLINGS, is_open
from eventstacks.patterns.grammar import PatternError, parse_pattern

TEXT = frozenset({"Fn::Sub", "Fn::Join", "Fn::ImportValue", "Fn::Base64"})


class EventPattern(FlowRule):
    id = "E9803"
    shortdesc = "An event pattern must be one that EventBridge takes"
    description = (
        "PutRule refuses a pattern that breaks the grammar. The message is in the words of AWS."
    )
    source_url = f"{GUIDE}eb-create-pattern-operators.html"
    kinds = frozenset({RULE, "AWS::Events::Archive"})

    def check(self, view: View) -> Findings:
        for _, properties in view.each(*self.kinds):
            if (node := properties.get("EventPattern")) is None or is_open(node.value):
                continue
            # Where it is not known what stands in a text, it is enough if anything would do.
            is_text = isinstance(node.value, str)
            given = (
                dict.fromkeys(SYMBOL.sub(filling, node.value) for filling in FILLINGS)
                if is_text
                else ()
            )
            problems = [_refusal(one) for one in given or (node.value,)]
            if problem := problems[0] if all(problems) else None:
                place = _locate(node, problem.where)
                if is_text or is_known(place.value) or _is_bare_text(view, place, problem):
                    where = f" (at {problem.where})" if problem.where else ""
                    yield (
                        place,
                        f"EventBridge refuses the pattern: {problem.what}{where} {problem.advice}".strip(),
                    )


def _refusal(pattern: Any) -> PatternError | None:
    try:
        parse_pattern(pattern)
    except PatternError as error:
        return error
    return None


def _locate(node: Node, path: str) -> Node:
    """The node that a dotted path leads to, or the last one on the way; names of fields may hold dots themselves."""
    if isinstance(node.raw, dict):
        for key in sorted(map(str, node.raw), key=len, reverse=True):
            if (path == key or path.startswith(f"{key}.")) and (inner := node.get(key)):
                return _locate(inner, path[len(key) + 1 :])
    return node


def _is_bare_text(view: View, node: Node, problem: PatternError) -> bool:
    """Whether text stands where a list is wanted, whatever the text is."""
    if "must be an object or an array" not in problem.what or not isinstance(node.raw, dict):
        return False
    [name] = node.raw if len(node.raw) == 1 else [""]
    declared = (view.cfn.template.get("Parameters") or {}).get(
        node.raw.get("Ref"), {"Type": "String"}
    )
    return name in TEXT or (name == "Ref" and declared.get("Type") in ("String", "Number"))
