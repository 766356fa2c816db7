"""``dmz`` and ``python -m dmzcli``: runs a command and turns its end into an exit code.

0 done; 2 the user's input is wrong; 1 a defect; 130 and 143 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


class Stopped(KeyboardInterrupt):
    """SIGINT; a plain KeyboardInterrupt that passes through ``exec`` makes Python end with another exit code."""


class Terminated(BaseException):
    """SIGTERM, outside of work that answers signals in its own time."""


def _stop(number: int, frame: FrameType | None) -> None:
    """Answers SIGINT and SIGTERM, outside of work that does so in its own time."""
    if _importing(frame):  # a library may swallow what is thrown into its import, or make another error of it
        os.write(2, b"interrupted\n")
        os._exit(128 + number)
    raise Terminated if number == signal.SIGTERM else Stopped


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _listen() -> None:
    """Installs :func:`_stop` where the signals would end us in Python's own way."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) == usual:
            signal.signal(number, _stop)


def _mistake(message: str, hint: str) -> int:
    from dmzcli.commands.printable import as_json, printable
    from dmzcli.system import processes

    one_line, hint = printable(" ".join(message.split())), printable(" ".join(hint.split()))
    if not processes.main():  # it may be the only one with this trouble
        print(f"process {processes.rank()}: {one_line}", file=sys.stderr)
        return 2
    print(f"error: {one_line}", file=sys.stderr)
    print(f"hint: {hint}", file=sys.stderr)
    if "--json" in sys.argv:
        print(as_json({"error": one_line, "hint": hint}))
    return 2


def _outcome(error: BaseException) -> int:
    """Says what went wrong; the exit code."""
    import typer

    from dmzcli.errors import UserError
    from dmzcli.system import processes
    from dmzcli.system.interrupts import Interrupted

    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
        return 2
    usage_error = typer.BadParameter.__mro__[2]  # ClickException, wherever this typer keeps it
    if isinstance(error, UserError):
        return _mistake(error.message, error.hint)
    if isinstance(error, usage_error):
        from dmzcli.commands.usage import explain

        return _mistake(*explain(error))
    if isinstance(error, KeyboardInterrupt | typer.Abort | Terminated):
        print("interrupted", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
    if "priors" in sys.modules and isinstance(error, sys.modules["priors"].PriorError):
        return _mistake(str(error), getattr(error, "hint", None) or "see dmz fit-prior --help")
    if isinstance(error, Interrupted):
        if processes.main():
            print(f"interrupted: {error.kept}", file=sys.stderr)
        return 128 + int(error.number)
    if "torch" in sys.modules and processes.is_connection(error):
        return _mistake(*processes.lost(error, "what was finished is kept"))
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # whoever read us has gone; nothing is left to say to them
        return 141
    if isinstance(error, OSError):
        from dmzcli.system.refusals import refusal

        refused = refusal(error)
        return _mistake(refused.message, refused.hint)
    if _out_of_memory(error):
        return _mistake(f"not enough memory: {error}", "lower --batch-size, --count, or the model's size")
    import traceback

    traceback.print_exception(error)
    print(
        "error: this is a defect of dmz, not of your input; please report it with the lines above",
        file=sys.stderr,
    )
    return 1


def _out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device has too little memory, in the ways that NumPy and torch say it."""
    said = isinstance(error, RuntimeError) and (
        "out of memory" in str(error) or "can't allocate" in str(error)
    )
    return said or isinstance(error, MemoryError)


def main() -> None:
    """The entry point."""
    try:
        _listen()
        import warnings

        for stream in (sys.stdout, sys.stderr):
            # A file's name may be no text in the terminal's encoding.
            getattr(stream, "reconfigure", lambda errors: None)(errors="backslashreplace")
        # Pillow warns of what our own errors say, in its own words.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        from dmzcli.commands.app import app

        code = app(standalone_mode=False)
        if code == 130:  # the parser has caught Ctrl-C and says nothing
            print("interrupted", file=sys.stderr)
        sys.stdout.flush()  # a full disk shows here, and not when Python has ended
    except SystemExit as end:  # the parser's one exit of its own: whoever read us has gone
        code = 141 if end.code == 1 else end.code
    except BaseException as error:
        code = _outcome(error)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
