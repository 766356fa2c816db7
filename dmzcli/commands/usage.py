"""Mistakes on the command line itself, in the words of every other mistake."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dmzcli.errors import UserError, did_you_mean


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuses an argument that is empty: an unset variable of the shell would be the working folder, or a default.

    And one that is not in UTF-8, as every name must be that settings and cards hold.

    Raises:
        UserError: There is such an argument.
    """
    for i, argument in enumerate(arguments):
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise UserError(
                f"'{argument}' is not in UTF-8, as settings and cards are",
                "rename it, or give it a link with another name",
            )
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
    return _in_words(message[:1].lower() + message[1:]), hint


_LIMITS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}
_NUMBER = r"-?\d[\d.]*(?:e[-+]?\d+)?"


def _in_words(message: str) -> str:
    """What a number must be, in our words in place of the parser's, which depend on its version."""
    if found := re.search(rf"Input should be ({'|'.join(_LIMITS)}) ({_NUMBER})$", message):
        return f"{message[: found.start()]}expected {_LIMITS[found[1]]} {_shown(found[2])}"
    if found := re.search(r"Input should be a valid (\w+)", message):
        kind = "a whole number" if found[1] == "integer" else "a number"
        return f"{message[: found.start()]}expected {kind}"
    start, between, interval = message.partition(" is not in the range ")
    numbers = re.findall(_NUMBER, interval)
    if not between or not 1 <= len(numbers) <= 2:
        return message
    if len(numbers) == 2:
        return f"{start}: expected {_shown(numbers[0])} to {_shown(numbers[1])}"
    return f"{start}: expected at {'least' if '>' in interval else 'most'} {_shown(numbers[0])}"


def _shown(number: str) -> str:
    return f"{int(number):,}" if number.lstrip("-").isdigit() else f"{float(number):g}"
