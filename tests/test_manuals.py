"""The manuals tell the truth: commands, options, links and examples in every README are there."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from dmzcli.commands.app import app

ROOT = Path(__file__).parents[1]
MANUALS = sorted(
    file
    for file in ROOT.rglob("*.md")
    if not {"build", "results", "node_modules", "saved"} & set(file.relative_to(ROOT).parts)
    and not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
)
NAMES = [str(file.relative_to(ROOT)) for file in MANUALS]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(text, language):
    return [body for name, body in FENCE.findall(text) if name == language]


def prose(text):
    return FENCE.sub("", text)


def shell_lines(text):
    """The lines of the shell blocks, comments cut off and continued lines joined."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def command_of(words):
    """The words of a dmz command, or ``None``: also behind ``&&``, torchrun and accelerate."""
    for name in ("dmz", "dmzcli"):
        if name in words:
            return words[words.index(name) + 1 :]
    return None


def options_of(command):
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def check(words, where):
    """Asserts that a command exists, and every option that it is given."""
    command = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"{where}: there is no command {' '.join(words)!r}"
        command = command.commands[name]
    known = options_of(command) | {"--help", "-h"}
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in known, f"{where}: dmz {' '.join(words)}: {word} is no option"


@pytest.mark.parametrize("manual", NAMES)
def test_every_command_in_a_shell_block_parses(manual):
    for words in shell_lines((ROOT / manual).read_text(encoding="utf-8")):
        command = command_of(words)
        if command is not None:
            check(command, manual)


@pytest.mark.parametrize("manual", NAMES)
def test_every_command_in_a_sentence_is_there(manual):
    for code in re.findall(r"`([^`\n]+)`", prose((ROOT / manual).read_text(encoding="utf-8"))):
        if code.startswith("dmz "):
            text = code.replace("[", "").replace("]", "").replace("|", " ")
            check(shlex.split(text)[1:], manual)


@pytest.mark.parametrize("manual", NAMES)
def test_every_option_in_a_sentence_is_some_commands(manual):
    known, todo = set(), [typer.main.get_command(app)]
    while todo:
        command = todo.pop()
        known |= options_of(command)
        todo += getattr(command, "commands", {}).values()
    others = {"--slow", "--device", "--help"}  # pytest's, and everyone's
    for code in re.findall(r"`(--[^`\n]+)`", prose((ROOT / manual).read_text(encoding="utf-8"))):
        option = re.match(r"--[a-z][a-z-]*", code)
        assert option and option[0] in known | others, f"{manual}: no command has the option {code}"


@pytest.mark.parametrize("manual", NAMES)
def test_every_link_leads_somewhere(manual):
    text = prose((ROOT / manual).read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|#|mailto:", target):
            assert ((ROOT / manual).parent / target.split("#")[0]).exists(), f"{manual}: {target} is missing"


@pytest.mark.parametrize("manual", NAMES)
def test_every_python_block_compiles(manual):
    for body in blocks((ROOT / manual).read_text(encoding="utf-8"), "python"):
        compile(body, manual, "exec")


def test_the_librarys_example_runs(workshop, capsys):
    """README's example, on the tiny run, whose prior is another."""
    (body,) = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    names = {}
    exec(body.replace("runs/digits", "runs/tiny").replace('"mixture"', '"bernoulli"'), names)
    assert names["bits"].shape == (10, 8) and names["again"].shape == (10, 8, 8, 1)
    assert names["new"].shape == (16, 8, 8, 1) and names["noise"].shape == (10, 1, 8, 8)
    assert capsys.readouterr().out == "8\n"


def test_the_front_door_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    assert "pip install . && dmz demo" in lines and "pip install -e '.[test]' && pytest" in lines


def test_a_renamed_option_would_be_noticed():
    with pytest.raises(AssertionError, match=r"--stepz is no option"):
        check(["sample", "--stepz", "3"], "here")
    with pytest.raises(AssertionError, match=r"there is no command"):
        check(["simple"], "here")
