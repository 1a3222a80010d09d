"""How a deployment is to be done, and what AWS would refuse of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventstacks.errors import ToolError

ON_FAILURE = ("ROLLBACK", "DO_NOTHING", "DELETE")


class OptionsError(ToolError):
    """Options that exclude each other."""


@dataclass(frozen=True)
class Options:
    """What ``deploy`` takes. Raises OptionsError for what CloudFormation would refuse.

    Source: API reference of CreateChangeSet (OnStackFailure, DeploymentConfig, DeploymentMode) and ExecuteChangeSet
    (DisableRollback).
    """

    express: bool = False
    revert_drift: bool = False
    import_existing: bool = False
    on_failure: str | None = None
    disable_rollback: bool = False
    nested: bool = True
    allow_replace: frozenset[str] = frozenset()  # logical ids

    def __post_init__(self) -> None:
        if self.on_failure not in (None, *ON_FAILURE):
            raise OptionsError(
                f"--on-failure takes {', '.join(ON_FAILURE)}, not {self.on_failure!r}"
            )
        for refused, why, advice in (
            (
                self.disable_rollback and self.on_failure,
                "--disable-rollback and --on-failure both say what happens to a stack that fails",
                "Use one of them: --on-failure DO_NOTHING is --disable-rollback for new stacks.",
            ),
            (
                self.express and self.on_failure,
                "--express carries its own rule for failures and goes with --disable-rollback, not with --on-failure",
                "",
            ),
            (
                self.revert_drift and self.import_existing,
                "--revert-drift changes what a stack has, --import-existing takes in what it has not",
                "Deploy twice, with one of them each time.",
            ),
        ):
            if refused:
                raise OptionsError(why, advice=advice)

    def creating(self, kind: str) -> dict[str, Any]:
        """Arguments of CreateChangeSet for a change set of ``kind`` CREATE or UPDATE."""
        found: dict[str, Any] = {}
        if self.express:  # DisableRollback's default differs between the modes: say it
            found["DeploymentConfig"] = {
                "Mode": "EXPRESS",
                "DisableRollback": self.disable_rollback,
            }
        if self.on_failure and kind == "CREATE":
            found["OnStackFailure"] = self.on_failure
        if self.import_existing:
            found["ImportExistingResources"] = True
        if self.revert_drift and kind == "UPDATE":
            found["DeploymentMode"] = "REVERT_DRIFT"
        return found

    def executing(self, kind: str) -> dict[str, Any]:
        """Arguments of ExecuteChangeSet: DisableRollback is refused beside OnStackFailure and DeploymentConfig."""
        if self.express or (self.on_failure and kind == "CREATE"):
            return {}
        return {"DisableRollback": self.disable_rollback or self.on_failure == "DO_NOTHING"}
