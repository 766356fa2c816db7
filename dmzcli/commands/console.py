"""What a person sees: talk and progress on stderr, results on stdout, mistakes as two lines."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dmzcli.errors import Unchecked
from dmzcli.system.progress import Advance

LOG_SECONDS = 30.0
"""How often progress prints a line where there is no terminal for a bar."""


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="cyan")


class Console:
    """The talk of one command.

    Arguments:
        quiet: Says nothing.
        as_json: Prints the result as one JSON object instead of as text.
        mute: Prints neither talk nor result, as one of several processes.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False, mute: bool = False) -> None:
        self.quiet, self.as_json, self.mute = quiet or mute, as_json, mute
        self.err = RichConsole(stderr=True, quiet=self.quiet, highlight=False)
        self._live: Progress | None = None

    def listen(self) -> None:
        """Says what is told of unchecked files; other warnings keep Python's form."""
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
            if issubclass(category, Unchecked):
                self.say(f"note: {message}")
            else:
                usual(message, category, *rest, **options)

        warnings.showwarning = show

    def say(self, message: str) -> None:
        """A line on stderr."""
        self.err.print(message, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: float, done: float = 0) -> Iterator[Advance]:
        """A progress bar with rate and remaining time; plain lines where stderr is no terminal."""
        if self.quiet or not self.err.is_terminal:
            yield self._lines(description, total)
            return
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[message]}", style="dim"),
        )
        outer = self._live
        live = outer or Progress(*columns, console=self.err)
        if outer is None:
            live.start()
            self._live = live
        bar = live.add_task(description, total=total, completed=int(done), message="")

        def advance(done: float, message: str) -> None:
            live.update(bar, completed=done)
            if message:
                live.update(bar, message=message)

        try:
            yield advance
        finally:
            if outer is None:
                live.stop()
                self._live = None

    def _lines(self, description: str, total: float) -> Advance:
        last = time.monotonic()

        def advance(done: float, message: str) -> None:
            nonlocal last
            if time.monotonic() - last >= LOG_SECONDS:
                last = time.monotonic()
                self.say(f"{description}: {done:g} of {total:g}  {message}".rstrip())

        return advance

    def result(self, facts: Mapping[str, Any], text: str | Group | None = None) -> None:
        """Prints a command's result on stdout.

        Arguments:
            facts: JSON-able; printed with ``--json``, and otherwise if there is no ``text``.
            text: The same for a person.
        """
        if self.mute:
            return
        if self.as_json:
            print(json.dumps(facts, ensure_ascii=False, allow_nan=False))
        elif isinstance(text, Group):
            width = None if sys.stdout.isatty() else 160
            RichConsole(highlight=False, width=width).print(text)
        else:
            print(
                text if text is not None else "\n".join(f"{name}: {value}" for name, value in facts.items())
            )


def table(title: str, rows: list[dict[str, Any]]) -> Group:
    """A table with one column per key of the first row, under a title that may be wider than it."""
    shown = Table()
    for name in rows[0]:
        numeric = isinstance(rows[0][name], int | float)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    return Group(Text(title, style="bold"), shown)
