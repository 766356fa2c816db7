"""``dmz`` and ``python -m dmzcli``: runs a command and turns its end into an exit code.

0 done; 2 the user's input is wrong; 1 a defect; 130 and 143 interrupted.
"""

from __future__ import annotations

import json
import sys


def _mistake(message: str, hint: str) -> int:
    one_line = " ".join(message.split())
    print(f"error: {one_line}", file=sys.stderr)
    print(f"hint: {' '.join(hint.split())}", file=sys.stderr)
    if "--json" in sys.argv:
        print(json.dumps({"error": one_line, "hint": hint}, ensure_ascii=False))
    return 2


def _outcome(error: BaseException) -> int:
    """Says what went wrong; the exit code."""
    import typer

    from dmzcli.errors import UserError

    usage_error = typer.BadParameter.__mro__[2]  # ClickException, wherever this typer keeps it
    if isinstance(error, UserError):
        return _mistake(error.message, error.hint)
    if isinstance(error, usage_error):
        from dmzcli.usage import explain

        return _mistake(*explain(error))
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    if "priors" in sys.modules and isinstance(error, sys.modules["priors"].PriorError):
        return _mistake(str(error), getattr(error, "hint", None) or "see dmz fit-prior --help")
    if "dmzcli.interrupts" in sys.modules and isinstance(error, sys.modules["dmzcli.interrupts"].Interrupted):
        print(f"interrupted: {error.kept}", file=sys.stderr)
        return 128 + int(error.number)
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # whoever read us has gone; nothing is left to say to them
        return 1
    import traceback

    traceback.print_exception(error)
    print(
        "error: this is a defect of dmz, not of your input; please report it with the lines above",
        file=sys.stderr,
    )
    return 1


def main() -> None:
    """The entry point."""
    from dmzcli.cli import app

    try:
        code = app(standalone_mode=False)
    except SystemExit:
        raise
    except BaseException as error:
        code = _outcome(error)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
