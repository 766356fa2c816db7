"""The ends of a command: signals before the work begins, refusals of the operating system, and harmless words."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dmzcli.commands.console import table
from dmzcli.commands.printable import as_json, printable
from dmzcli.commands.usage import check_arguments

AT_IMPORT = """
import signal, sys

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            signal.raise_signal({number})

sys.meta_path.insert(0, Sender())
sys.argv = ["dmz", "train", "--dry-run", "--device", "cpu"]
from dmzcli.__main__ import main
main()
"""


def hearing(command):
    """Runs a program that hears SIGINT, though these tests may run as a shell's background job, which does not."""

    def heard():
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=heard)


@pytest.mark.parametrize("module", ["json", "typer", "dmzcli.commands.app", "numpy", "torch"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_as_promised(module, number):
    """Sent at the very import, wherever a machine is in its first half second."""
    program = AT_IMPORT.format(module=module, number=int(number))
    done = hearing([sys.executable, "-c", program])
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "interrupted\n")


def test_a_signal_inside_of_exec_ends_as_promised():
    """Where Python takes a plain KeyboardInterrupt for one that nobody caught, and kills itself."""
    program = """
import signal, sys
sys.argv = ["dmz", "info", "x"]
from dmzcli.__main__ import main
import dmzcli.reports.describe as describe
describe.describe = lambda path: exec("import signal; signal.raise_signal(2)")
main()
"""
    Path("program.py").write_text(program)
    done = hearing([sys.executable, "-m", "program"])
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_a_signal_that_is_ignored_stays_ignored(python):
    """As in a shell's background jobs."""
    program = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from dmzcli.__main__ import _listen
_listen()
print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN, signal.getsignal(signal.SIGTERM))
"""
    out = python(program)
    assert out.startswith("True") and "_stop" in out


def test_until_it_hears_signals_nothing_is_imported_that_takes_long(python):
    program = """
import sys
before = set(sys.modules)
import dmzcli.__main__
print(*sorted(name.split(".")[0] for name in set(sys.modules) - before))
"""
    assert set(python(program).split()) <= {"dmzcli", "signal"}


# Refusals of the operating system ---------------------------------------------------------------------------------

NAMES = {"too long": "n" * 300, "below a file": "file/below"}


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize(
    "command",
    [
        ("info", "{}"),
        ("train", "{}"),
        ("train", "cifar10", "--data-dir", "{}"),
        ("train", "--run", "{}", "--set", "data.size=9"),
        ("import-weights", "{}", "--size", "8"),
        ("encode", "--run", "{}"),
        ("fit-prior", "{}"),
        ("fit-prior", "--run", "{}"),
        ("compare-priors", "{}"),
        ("sample", "--run", "{}"),
        ("probe", "{}"),
        ("evaluate", "{}", "--against", "digits"),
        ("sweep-steps", "--run", "{}"),
        ("likelihood", "--run", "{}"),
        ("data", "show", "{}"),
        ("data", "prepare", "digits", "--out", "{}.h5"),
    ],
    ids=" ".join,
)
def test_no_name_makes_a_traceback(dmz, command, what):
    Path("file").touch()
    dmz(*(part.format(NAMES[what]) for part in command)).mistake()


def test_what_no_one_caught_is_named_with_its_path(dmz, monkeypatch):
    def broken(path):
        raise OSError(5, "Input/output error", "the/file")

    monkeypatch.setattr("dmzcli.reports.describe.describe", broken)
    assert dmz("info", "x").mistake() == (
        "error: the/file cannot be used: Input/output error",
        "hint: check the path and its disk",
    )


def test_a_full_disk_under_the_output_is_told():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dmzcli", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space left to write the output\nhint: ")


@pytest.mark.parametrize("arguments", [("info", "runs/tiny/locked"), ("encode", "--run", "runs/tiny/locked")])
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(dmz, workshop, arguments):
    Path("runs/tiny/locked/x").mkdir(parents=True)
    Path("runs/tiny/locked").chmod(0)
    try:
        assert "permission" in dmz(*arguments).mistake()[0]
    finally:
        Path("runs/tiny/locked").chmod(stat.S_IRWXU)


# Empty arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", ""),
        ("train", "--run", ""),
        ("train", "--run="),
        ("demo", "--run", " "),
        ("data", "show", ""),
    ],
    ids=str,
)
def test_an_empty_argument_is_refused(dmz, arguments):
    error, hint = dmz(*arguments).mistake()
    assert "is empty" in error and "unset" in hint
    assert os.listdir() == []


def test_an_empty_setting_still_means_its_own():
    check_arguments(["train", "--set", "data.size="])


# Words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\x9b31mb", "a\rb", "a\u202eb", "a\x7fb"])
def test_nothing_in_a_name_reaches_the_terminal_raw(dmz, name):
    ended = dmz("info", name, "--json")
    ended.mistake()
    for text in (ended.out, ended.err):
        assert text.replace("\n", "").isprintable(), text
    assert ended.json["error"] in ended.err


def test_talk_and_results_are_harmless_too(dmz):
    from PIL import Image

    folder = Path("p\x1b[31m")
    for i in range(20):
        (folder / f"c\x1b[3{i % 2}m").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(folder / f"c\x1b[3{i % 2}m" / f"{i}.png")
    ended = dmz("data", "show", folder, "--out", "s.png")
    assert ended.code == 0, ended.err
    for text in (ended.out, ended.err):
        assert "\\x1b[3" in text and "\x1b[3" not in text


def test_rich_takes_a_name_for_no_markup():
    rows = [{"[bold]name": "[red]x[/red]", "n": 1.0}]
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as shown:
        console.print(table("[i]title", rows))
    assert "[bold]name" in shown.get() and "[red]x[/red]" in shown.get() and "[i]title" in shown.get()


def test_json_is_read_back_as_it_was():
    facts = {"name": "a\x1b\u202e\udcff é", "plain": 1}
    assert json.loads(as_json(facts)) == facts
    assert as_json({"name": "é"}) == '{"name": "é"}'
    assert printable("line\n\tnext é") == "line\n\tnext é"
