"""The errors that a user is meant to read."""

from __future__ import annotations


class ToolError(Exception):
    """Something a user can mend: what was wrong, where, and what to do next.

    Every room derives its own errors from this one. The commands print it on stderr and exit with 1; anything
    else that escapes is a fault of this program.

    ``where`` names the place (file and line, key, stack, region), ``advice`` the next step; both may be empty.
    """

    def __init__(self, what: str, *, where: str = "", advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n{self.advice}" if self.advice else text
