from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View


class FifoDeadLetters(FlowRule):
    id = "E9808"
    shortdesc = "A dead-letter queue must be a standard queue"
    description = "EventBridge and EventBridge Scheduler put dead letters on standard queues, never on FIFO queues."
    source_url = f"{GUIDE}eb-rule-dlq.html"
    kinds = frozenset({"AWS::Events::Rule", "AWS::Events::EventBus", "AWS::Scheduler::Schedule"})

    def check(self, view: View) -> Findings:
        owners = [one.node for one in view.targets]
        owners += [node for _, node in view.each("AWS::Events::EventBus")]
        owners += [
            target
            for _, node in view.each("AWS::Scheduler::Schedule")
            if (target := node.get("Target"))
        ]
        for node in (found for one in owners if (found := one.get("DeadLetterConfig", "Arn"))):
            arn = str(node.value)
            queue = view.flow.resources.get(arn)
            if arn.endswith(".fifo") or (
                queue and str(queue.properties.get("FifoQueue")).lower() == "true"
            ):
                yield node, "A FIFO queue takes no dead letters: name a standard queue"
