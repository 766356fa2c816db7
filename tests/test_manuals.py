"""Manuals say nothing that a program would refuse: whole command lines parse, settings, programs and imports exist.

Values, numbers of arguments and names of settings are read as dmz reads them. The manuals are README.md, every
README.md below it, and CONTRIBUTING.md.
"""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer.main

import priors
from dmzcli import config
from dmzcli.commands.app import app

ROOT = Path(__file__).parent.parent
MANUALS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted([*ROOT.glob("[!.]*/README.md"), *ROOT.glob("[!.]*/[!.]*/README.md")]),
]
TEXTS = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in MANUALS}

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LAUNCHERS = ("torchrun", "accelerate", "python")


def simple_commands(line):
    """The words of every simple command of a line: split at ``&&``, ``;`` and ``|``, without comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split, lexer.commenters = True, "#"
    words = []
    for word in lexer:
        if set(word) <= set("&|;"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def shell_lines():
    """(manual, words) of every simple command in a shell block; continued lines are joined."""
    for name, text in TEXTS.items():
        for language, block in FENCED.findall(text):
            if language in ("sh", "bash", "shell", "console"):
                for line in block.replace("\\\n", " ").splitlines():
                    yield from ((name, words) for words in simple_commands(line) if words)


def of_dmz(words):
    """The arguments that a command gives to dmz, by itself or by a launcher; ``None`` if it runs something else."""
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[:1] == ["dmz"]:
        return words[1:]
    if words and words[0].split("/")[-1] in LAUNCHERS and "dmzcli" in words:
        return words[words.index("dmzcli") + 1 :]
    return None


def settings_of(name):
    """The names that ``--set`` takes: those of the kinds for the commands that fit priors, else those of a run."""
    if name in ("fit-prior", "compare-priors"):
        return {option for kind in priors.available() for option in priors.describe(kind)["options"]}
    return {f"{section}.{key}" for section, model in config.fields().items() for key in model.model_fields}


def parse(arguments):
    """Parses a whole command line as dmz would, without running it.

    Raises:
        KeyError: There is no such command.
        Exception: click's own, for an unknown option, a value that it does not take, or an argument too many or few.
        AssertionError: There is no such setting.
    """
    command, rest = typer.main.get_command(app), list(arguments)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    context = command.make_context(command.name, rest)
    for setting in context.params.get("settings") or ():
        assert setting.partition("=")[0] in settings_of(command.name), f"no setting {setting}"


COMMAND_LINES = [
    (name, arguments) for name, words in shell_lines() if (arguments := of_dmz(words)) is not None
]


def test_there_are_manuals_with_commands():
    assert len(COMMAND_LINES) >= 10


@pytest.mark.parametrize(("name", "arguments"), COMMAND_LINES, ids=lambda value: str(value)[:60])
def test_every_command_line_is_one_that_dmz_takes(name, arguments):
    parse(arguments)


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("dmz trian", "trian"),
        ("dmz data lists", "lists"),
        ("dmz sample --stepz 20", "No such option"),
        ("dmz sample --steps many", "Invalid value for '--steps'"),
        ("dmz info", "Missing argument"),
        ("dmz probe one.h5 two.h5", "unexpected extra argument"),
        ("dmz train --set model.bitz=8", "no setting model.bitz=8"),
        ("dmz fit-prior --set model.bits=8", "no setting model.bits=8"),
        ("torchrun --nproc-per-node 2 -m -- dmzcli train --devise cpu", "No such option"),
    ],
)
def test_a_wrong_command_line_is_noticed(line, mistake):
    with pytest.raises(Exception, match=r".*") as raised:
        parse(of_dmz(shlex.split(line)))
    assert mistake in getattr(raised.value, "format_message", lambda: str(raised.value))()


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("dmz train  # the run's own; digits", [["train"]]),
        ("OMP_NUM_THREADS=1 dmz probe", [["probe"]]),
        ("accelerate launch --multi_gpu -m dmzcli train cifar10", [["train", "cifar10"]]),
        ("torchrun --nproc-per-node 4 -m -- dmzcli encode --run r", [["encode", "--run", "r"]]),
        ("pip install . && dmz demo", [None, ["demo"]]),
    ],
)
def test_the_arguments_of_dmz_in_a_line(line, commands):
    assert [of_dmz(words) for words in simple_commands(line)] == commands


def test_settings_in_sentences_and_tables_exist():
    """``section.key``, with a value or without; neither files nor functions of that module are settings."""
    known, wrong, count = settings_of("train"), [], 0
    for name, text in TEXTS.items():
        for code in re.findall(r"`([^`\n]+)`", FENCED.sub("", text)):
            for section, key, value in re.findall(r"^(?:--set )?(\w+)\.(\w+)(=.*)?$", code):
                if section not in config.fields() or key in ("py", "md", "json", "toml", "safetensors"):
                    continue
                count += 1
                function = not value and hasattr(importlib.import_module(f"dmzcli.{section}"), key)
                if f"{section}.{key}" not in known and not function:
                    wrong.append((name, code))
    assert wrong == [] and count >= 10


def test_programs_in_command_lines_have_their_options():
    wrong = []
    for name, words in shell_lines():
        for script in (word for word in words if word.endswith(".py")):
            text = (ROOT / script).read_text(encoding="utf-8") if (ROOT / script).is_file() else ""
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            if not text or any(f'"{option}"' not in text for option in options):
                wrong.append((name, " ".join(words)))
    assert wrong == []


@pytest.mark.parametrize("name", TEXTS)
def test_what_python_examples_import_exists(name):
    for language, block in FENCED.findall(TEXTS[name]):
        for node in ast.walk(ast.parse(block)) if language == "python" else ():
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", TEXTS)
def test_links_to_headings_find_them(name):
    wrong = []
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", FENCED.sub("", TEXTS[name])):
        file = (ROOT / name).parent / target if target else ROOT / name
        if anchor not in anchors(file.read_text(encoding="utf-8")):
            wrong.append(f"{target}#{anchor}")
    assert wrong == []


def test_the_front_door_leads_to_every_manual():
    links = re.findall(r"\]\(([^)\s#]+)", TEXTS["README.md"])
    reached = {(ROOT / link).resolve() for link in links}
    away = [
        name for name in TEXTS if name != "README.md" and not {ROOT / name, (ROOT / name).parent} & reached
    ]
    assert away == []


def options_of(command):
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def all_options():
    known, todo = set(), [typer.main.get_command(app)]
    while todo:
        command = todo.pop()
        known |= options_of(command)
        todo += getattr(command, "commands", {}).values()
    return known


@pytest.mark.parametrize("name", TEXTS)
def test_commands_and_options_in_sentences_exist(name):
    """``dmz command --option`` as code, and ``--option`` alone: that one has to be some command's, or pytest's."""
    known = all_options() | {"--slow"}
    for code in re.findall(r"`(dmz [^`\n]+|--[^`\n]+)`", FENCED.sub("", TEXTS[name])):
        words = shlex.split(re.sub(r"[][|]", " ", code))
        if words[0] == "dmz":
            command, words = typer.main.get_command(app), words[1:]
            while hasattr(command, "commands") and words and not words[0].startswith("-"):
                command = command.commands[words.pop(0)]
            assert {word for word in words if word.startswith("-")} <= options_of(command) | {"--help"}, code
        else:
            assert re.match(r"--[a-z-]*", code)[0] in known, code


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name):
    for target in re.findall(r"\]\(([^)\s#]+)", FENCED.sub("", TEXTS[name])):
        if not re.match(r"https?:|mailto:", target):
            assert ((ROOT / name).parent / target).exists(), target


def test_the_librarys_example_runs(workshop, capsys):
    """README's example, on the tiny run and a prior that it has."""
    (body,) = [block for language, block in FENCED.findall(TEXTS["README.md"]) if language == "python"]
    names = {}
    exec(body.replace("runs/digits", "runs/tiny").replace('"mixture"', '"bernoulli"'), names)
    assert names["bits"].shape == (10, 8) and names["again"].shape == (10, 8, 8, 1)
    assert names["new"].shape == (16, 8, 8, 1) and names["noise"].shape == (10, 1, 8, 8)
    assert capsys.readouterr().out == "8\n"


def test_the_front_door_is_short():
    lines = TEXTS["README.md"].splitlines()
    assert len(lines) <= 130
    assert "pip install . && dmz demo" in lines and "pip install -e '.[test]' && pytest" in lines
