"""What is said of an error that ends a command."""

from __future__ import annotations

from scripts.errors import ToolError


def describe(error: Exception) -> str | None:
    """The words for an error that a user can do something about; None for a fault of this program."""
    if isinstance(error, ToolError):
        return f"Error: {error}"
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        answer = error.response.get("Error", {})
        code = answer.get("Code", "no code")
        return f"Error: AWS refused {error.operation_name}: {answer.get('Message') or code} ({code})"
    if isinstance(error, BotoCoreError):
        return f"Error: {error}"
    return None
