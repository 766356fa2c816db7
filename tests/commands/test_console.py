"""Talk and results: which goes where, and that talk never gets in the way."""

import inspect
import io
import json

import pytest
from rich.console import Console as RichConsole

from dmzcli.commands import console
from dmzcli.commands.console import Console, table
from dmzcli.errors import UserError, did_you_mean
from dmzcli.system.progress import Silence


def test_talk_goes_to_stderr_and_results_to_stdout(capsys):
    talk = Console()
    talk.say("[bold] is no markup here")
    talk.result({"a": 1, "b": [2]})
    out, err = capsys.readouterr()
    assert (out, err) == ("a: 1\nb: [2]\n", "[bold] is no markup here\n")


def test_quiet_says_nothing(capsys):
    talk = Console(quiet=True)
    talk.say("hello")
    with talk.task("work", 2) as advance:
        advance(1, "half")
    talk.result({"a": 1}, "one")
    out, err = capsys.readouterr()
    assert (out, err) == ("one\n", "")


def test_json_is_strict(capsys):
    Console(as_json=True).result({"a": "ü"}, "text")
    assert json.loads(capsys.readouterr().out) == {"a": "ü"}
    with pytest.raises(ValueError, match="JSON"):
        Console(as_json=True).result({"a": float("nan")})


def test_tables_are_whole_where_there_is_no_terminal(capsys):
    Console().result({}, table("title", [{"name": "x" * 40, "value": 0.123456, "n": 3}]))
    out = capsys.readouterr().out
    assert "x" * 40 in out and "0.1235" in out and "title" in out


def test_lines_instead_of_a_bar_where_there_is_no_terminal(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with Console().task("work", 1000, 100) as advance:
        now[0] = 29.0
        advance(199, "too soon")
        now[0] = 50.0
        advance(200, "a fifth")
    with Console().task("work", 1000, 100, until=200.0) as advance:
        now[0] = 100.0
        advance(200, "a fifth")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "work: 200 of 1000, 2/s, 6 min left  a fifth",
        "work: 200 of 1000, 2/s, 1 min left  a fifth",  # it ends at 200
    ]


def on_a_terminal(talk):
    stream = io.StringIO()
    talk.err = RichConsole(file=stream, force_terminal=True, width=160)
    return stream


def test_a_bar_on_a_terminal():
    talk = Console()
    stream = on_a_terminal(talk)
    with talk.task("work", 10, 3) as advance:
        advance(10, "done")
    text = stream.getvalue()
    assert "work" in text and "10/10" in text and "done" in text


def test_tasks_within_tasks_and_failures_leave_no_bar():
    talk = Console()
    on_a_terminal(talk)
    with pytest.raises(UserError), talk.task("outer", 2), talk.task("inner", 2) as advance:
        advance(1, "")
        raise UserError("wrong", "mend it")
    with talk.task("again", 2) as advance:  # a live display that was left would refuse a second one
        advance(2, "")


def test_silence_prints_nothing_and_hides_no_failure(capsys):
    silence = Silence()
    silence.say("nothing")
    with pytest.raises(UserError, match="wrong"), silence.task("work", 3, 1) as advance:
        advance(1, "x")
        raise UserError("wrong", "mend it")
    assert capsys.readouterr() == ("", "")


def test_silence_listens_as_the_console_does():
    """Whatever the library calls on its listener, both take with the same arguments."""
    for name in ("say", "task"):
        ours, theirs = (
            inspect.signature(getattr(kind, name)).parameters.values() for kind in (Silence, Console)
        )
        assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("digts", "did you mean 'digits'?"),
        ("zzz", "one of: cifar10, digits"),
        ("", "one of: cifar10, digits"),
    ],
)
def test_did_you_mean(name, hint):
    assert did_you_mean(name, {"digits", "cifar10"}) == hint
