"""Errors that a user can fix, and the commands that error texts recommend."""

import difflib
import os
import shlex
from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """Stable codes of errors.

    Part of the output with ``--json``; code and tests use these, never a sentence.
    """

    FAILED = "failed"
    USAGE = "usage"  # wrong options or arguments: exit code 2
    # Files and values
    DOCUMENT_INVALID = "document_invalid"
    TEMPLATE_INVALID = "template_invalid"
    ENVIRONMENT_INVALID = "environment_invalid"
    PARAMETER_INVALID = "parameter_invalid"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    # AWS
    CREDENTIALS = "credentials"
    WRONG_ACCOUNT = "wrong_account"
    ENDPOINT_UNREACHABLE = "endpoint_unreachable"
    ACCESS_DENIED = "access_denied"
    AWS_ERROR = "aws_error"
    LOCAL_AWS_FAILED = "local_aws_failed"
    # Stacks
    STACK_NOT_DEPLOYED = "stack_not_deployed"
    STACK_BUSY = "stack_busy"
    STACK_STUCK = "stack_stuck"
    STACK_FAILED = "stack_failed"
    STACK_PROTECTED = "stack_protected"
    STACK_IN_USE = "stack_in_use"
    STACK_SKIPPED = "stack_skipped"
    CHANGE_SET_FAILED = "change_set_failed"
    OUTCOME_UNKNOWN = "outcome_unknown"
    DECLINED = "declined"
    # Events and patterns
    EVENT_INVALID = "event_invalid"
    EVENT_REJECTED = "event_rejected"
    PATTERN_INVALID = "pattern_invalid"
    JOURNAL_INVALID = "journal_invalid"
    INTERRUPTED = "interrupted"


class ToolError(Exception):
    """An error the user can fix: what is wrong, where, and what to do next.

    The command line prints it on stderr and exits with 1; any other exception that escapes is a
    bug.

    ``where`` names file and line, key, stack or region; ``advice`` is the next step. Both may be
    empty.
    """

    default_code: ClassVar[ErrorCode] = ErrorCode.FAILED

    def __init__(
        self, what: str, *, code: ErrorCode | None = None, where: str = "", advice: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.code = code or self.default_code
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n{self.advice}" if self.advice else text

    def document(self) -> dict[str, str]:
        """Return the error as ``--json`` prints it."""
        return {
            "code": self.code.value,
            "message": self.what,
            "where": self.where,
            "advice": self.advice,
        }


def command_line(
    verb: str,
    *options: str,
    env: str = "",
    stack: str = "",
    region: str = "",
    file: str = "",
) -> str:
    """Return the command that runs a verb, in the form the user came with: make or eventstacks.

    The Makefile sets EVENTSTACKS_MAKE. ``options`` are further words of the command line.
    """
    if os.environ.get("EVENTSTACKS_MAKE"):
        named = {"ENV": env, "STACK": stack, "REGION": region, "FILE": file}
        words = [f"{name}={value}" for name, value in named.items() if value]
        arguments = [f"ARGS={shlex.quote(shlex.join(options))}"] if options else []
        return " ".join(["make", verb, *words, *arguments])
    named = {"--env": env, "--stack": stack, "--region": region}
    words = [word for pair in named.items() if pair[1] for word in pair]
    return shlex.join(["eventstacks", verb, *words, *options, *([file] if file else [])])


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the closest of the known names, or ''."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
