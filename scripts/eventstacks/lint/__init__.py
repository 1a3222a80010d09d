"""Lint rules for event-driven templates, a plug-in of cfn-lint.

``cfn-lint -a eventstacks.lint``.
"""

from eventstacks.lint.buses import aws_events_elsewhere, bus_key, discoverer_key, schedule_bus
from eventstacks.lint.patterns import event_pattern, never_matches, rds_event_id, read_only_calls
from eventstacks.lint.policies import (
    alarm_topic,
    function_permission,
    logs_policy,
    open_bus,
    permission_source,
    queue_policy,
)
from eventstacks.lint.publishers import silent_bucket, trail_data_events, trail_selectors
from eventstacks.lint.targets import (
    dead_letters,
    fifo_dead_letters,
    input_json,
    log_group_role,
    loop,
    one_input,
    sender_role,
    target_ids,
    target_role,
)

# By number. cfn-lint itself looks for the classes in this module.
RULES = [
    logs_policy,
    log_group_role,
    event_pattern,
    never_matches,
    one_input,
    queue_policy,
    function_permission,
    target_ids,
    open_bus,
    fifo_dead_letters,
    aws_events_elsewhere,
    schedule_bus,
    trail_data_events,
    read_only_calls,
    permission_source,
    trail_selectors,
    discoverer_key,
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
