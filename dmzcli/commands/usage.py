"""Mistakes on the command line itself, in the words of every other mistake."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dmzcli.errors import UserError, did_you_mean


def refuse_empty(arguments: Sequence[str]) -> None:
    """Refuses an empty argument: an unset variable of the shell would be the working folder, or a default.

    Raises:
        UserError: There is one.
    """
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        before = arguments[i - 1] if i else ""
        if equals and option.startswith("--") and not value.strip():
            what = option
        elif argument.strip():
            continue
        else:
            what = f"the argument after {before}" if before else "the command"
        raise UserError(f"{what} is empty", "is a variable of the shell unset? leave it out, or give a value")


def explain(error: Any) -> tuple[str, str]:
    """Message and hint of one of the command-line parser's errors."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "dmz"
    message = re.split(r"\(?(?:Did you mean|Possible options)", error.format_message())[0].strip().rstrip(".")
    hint = f"see {path} --help"
    option = getattr(error, "option_name", None)
    commands = getattr(getattr(context, "command", None), "commands", None)
    if option and context is not None:
        known = [name for parameter in context.command.params for name in parameter.opts]
        hint = did_you_mean(option, known, "options")
    elif message.startswith("No such command") and commands:
        hint = did_you_mean(message.split("'")[1], commands, "commands")
    return message[:1].lower() + message[1:], hint
