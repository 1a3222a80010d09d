"""Lint rules for event-driven templates, a plug-in of cfn-lint.

``cfn-lint -a eventstacks.lint``.
"""

from eventstacks.lint.buses import (
    aws_events_elsewhere,
    bus_key,
    schedule_bus,
    silent_bucket,
    trail_data_events,
)
from eventstacks.lint.patterns import event_pattern, never_matches, rds_event_id, read_only_calls
from eventstacks.lint.policies import (
    alarm_topic,
    logs_policy,
    open_bus,
    permission_source,
    queue_policy,
)
from eventstacks.lint.targets import (
    dead_letters,
    fifo_dead_letters,
    input_json,
    loop,
    sender_role,
    target_ids,
    target_role,
)

# By number. cfn-lint itself looks for the classes in this module.
RULES = [
    logs_policy,
    event_pattern,
    never_matches,
    queue_policy,
    target_ids,
    open_bus,
    fifo_dead_letters,
    aws_events_elsewhere,
    schedule_bus,
    trail_data_events,
    read_only_calls,
    permission_source,
    bus_key,
    dead_letters,
    input_json,
    loop,
    rds_event_id,
    silent_bucket,
    target_role,
    sender_role,
    alarm_topic,
]
