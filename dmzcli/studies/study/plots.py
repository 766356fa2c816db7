"""A study's tables as plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmzcli.studies.study.tables import SOURCES, Entry, Table, is_real

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LINES = 10
"""Lines of a plot that colors can tell apart."""

Point = tuple[dict[str, str], Entry]
"""Where a quantity was measured, axes and all, and the quantity."""


def plot(table: Table, by: str | None = None) -> Figure | None:
    """A quantity along one of its names, a line for each combination of the others; ``None`` where none varies.

    Arguments:
        table: The quantity.
        by: The name; by default the first whose values are numbers.
    """
    from matplotlib.figure import Figure

    points = [({**dict(r), **dict(c)}, entry) for (r, c), entry in table.entries.items() if not is_real(c)]
    values: dict[str, list[str]] = {}
    for names, _ in points:
        for name, value in names.items():
            values.setdefault(name, []).append(value)
    values = {name: list(dict.fromkeys(found)) for name, found in values.items()}
    varied = [name for name in values if len(values[name]) > 1]
    if not varied:
        return None
    along = by if by in varied else next((n for n in varied if all(map(_is_number, values[n]))), varied[0])
    lines = _lines(points, along, varied)
    figure = Figure(figsize=(7.5, 4 + 0.12 * len(lines)), dpi=110, layout="constrained")
    axes = figure.subplots()
    _draw(axes, lines, values[along])
    for label, mean in {c[0][1]: entry.mean for (_, c), entry in table.entries.items() if is_real(c)}.items():
        axes.axhline(mean, color="gray", linestyle=":", label=label)
    axes.set(xlabel=along, ylabel=table.what)
    axes.grid(alpha=0.3)
    if any(lines):
        figure.legend(loc="outside lower center", fontsize="small", ncols=2)
    return figure


def _lines(points: list[Point], along: str, varied: list[str]) -> dict[str, list[tuple[str, Entry]]]:
    """The points of each combination of the other names, by what it is called."""
    lines: dict[str, list[tuple[str, Entry]]] = {}
    for names, entry in points:
        if along in names:
            rest = {name: value for name, value in names.items() if name in varied and name != along}
            label = ", ".join(value if name in SOURCES else f"{name}={value}" for name, value in rest.items())
            lines.setdefault(label, []).append((names[along], entry))
    return lines


def _draw(axes: Any, lines: dict[str, list[tuple[str, Entry]]], values: list[str]) -> None:
    """Lines over numbers, or points over names."""
    numeric = all(map(_is_number, values))
    for position, (label, entries) in enumerate(lines.items()):
        placed = [(float(value) if numeric else values.index(value), entry) for value, entry in entries]
        placed.sort(key=lambda point: point[0])
        axes.errorbar(
            [x for x, _ in placed],
            [entry.mean for _, entry in placed],
            [entry.spread for _, entry in placed],
            marker="osD^v"[position // MOST_LINES % 5],
            linestyle="-" if numeric else "none",
            capsize=2,
            label=label or None,
        )
    if not numeric:
        axes.set_xticks(range(len(values)), values)
        return
    ticks = sorted(map(float, values))
    if ticks[0] > 0 and ticks[-1] / ticks[0] >= 8:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
