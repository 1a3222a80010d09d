"""Lint rules for event-driven templates, a plug-in of cfn-lint: ``cfn-lint -a eventstacks.lint``."""

from eventstacks.lint.buckets import SilentBucket
from eventstacks.lint.buses import AwsEventsElsewhere, BusKey, DiscovererKey, OpenBus
from eventstacks.lint.patterns import EventPattern, NeverMatches, RdsEventId, ReadOnlyCalls
from eventstacks.lint.policies import FunctionPermission, LogsPolicy, PermissionSource, QueuePolicy
from eventstacks.lint.schedules import ScheduleBus, ScheduleRole
from eventstacks.lint.targets import (
    DeadLetters,
    FifoDeadLetters,
    InputJson,
    LogGroupRole,
    Loop,
    OneInput,
    TargetIds,
    TargetRole,
)
from eventstacks.lint.trails import TrailDataEvents, TrailSelectors

# By number. cfn-lint itself looks for the classes in this module.
RULES = [
    LogsPolicy,
    LogGroupRole,
    EventPattern,
    NeverMatches,
    OneInput,
    QueuePolicy,
    FunctionPermission,
    TargetIds,
    OpenBus,
    FifoDeadLetters,
    AwsEventsElsewhere,
    ScheduleBus,
    TrailDataEvents,
    ReadOnlyCalls,
    PermissionSource,
    TrailSelectors,
    DiscovererKey,
    BusKey,
    DeadLetters,
    InputJson,
    Loop,
    RdsEventId,
    SilentBucket,
    TargetRole,
    ScheduleRole,
]
