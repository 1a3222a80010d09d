"""What is said of an error that ends a command."""

from __future__ import annotations

from eventstacks.errors import ToolError


def describe(error: Exception) -> str | None:
    """The words for an error that a user can do something about; None for a fault of this program."""
    if isinstance(error, ToolError):
        return f"Error: {error}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"Error: {where}{error.strerror or error}"
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    if isinstance(error, ClientError):
        answer = error.response.get("Error", {})
        code = answer.get("Code", "no code")
        return (
            f"Error: AWS refused {error.operation_name}: {answer.get('Message') or code} ({code})"
        )
    if isinstance(error, BotoCoreError | ResponseParserError):
        return f"Error: {error}"
    return None
