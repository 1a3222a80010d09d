"""Where something happens, as it is said to people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventstacks.cloudformation.order import Key, Pair
    from eventstacks.environment import Environment


@dataclass(frozen=True)
class Place:
    """One stack in one region of one environment."""

    environment: str
    stack: str  # its key in the environment's file
    stack_name: str  # as CloudFormation knows it
    region: str

    @classmethod
    def of(cls, environment: Environment, pair: Pair) -> Place:
        """The place of a pair."""
        return cls(environment.name, pair[0].name, pair[0].stack_name, pair[1])

    @property
    def key(self) -> Key:
        """As ``order.key``."""
        return self.stack, self.region

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"stack": self.stack, "stackName": self.stack_name, "region": self.region}

    def command(self, verb: str, arguments: str = "") -> str:
        """What to type for this stack."""
        return f"make {verb} ENV={self.environment} STACK={self.stack} REGION={self.region}" + (
            f" ARGS='{arguments}'" if arguments else ""
        )

    def __str__(self) -> str:
        return f"{self.stack_name} in {self.region}"
