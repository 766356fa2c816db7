"""The manual: its examples run, its links lead somewhere, its tables are whole and say what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import priors
from priors.registry import kind_class

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "priors/README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [
        [cell.strip(" *`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def test_the_examples_run_one_after_another(capsys) -> None:
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"{README}, example {number}", "exec"), names)
    assert len(BLOCKS) >= 7
    assert names["samples"].shape == (1000, 16) and names["report"].gain_bits_per_code > 1
    assert names["best"].report.valid_nats >= names["report"].valid_nats
    assert (names["ones"].mean(0) > 0.5).tolist() == (names["centers"][names["label"][0]] == 1).tolist()
    assert capsys.readouterr().out.splitlines()[0] in TEXT.splitlines()


def test_the_table_of_kinds_is_whole() -> None:
    kinds = [cells[0] for cells in rows(TEXT) if len(cells) == 3 and cells[0] not in ("kind", "---")]
    ours = [kind for kind in priors.available() if kind_class(kind).__module__.startswith("priors.")]
    assert sorted(kinds) == ours


def test_links_within_the_repository_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) >= 4
    assert [link for link in links if not (README.parent / link).is_file()] == []


def test_the_density_table_is_that_of_the_benchmark() -> None:
    """``empirical`` has a parameter for every bit of every row fitted, and one more."""
    measured = rows((REPOSITORY / "benchmarks/results/debd.md").read_text(encoding="utf-8"))
    header = measured[0]
    sets = {cells[0]: cells for cells in measured if len(cells) == len(header) and cells[0] != "---"}
    sizes = {cells[0]: int(cells[6].replace(",", "")) for cells in measured if cells[1] == "empirical"}
    table = [cells for cells in rows(TEXT) if len(cells) == 8 and cells[0] in sets]
    assert len(table) == 4
    assert [re.sub(r".*\((CM|HCLT), recalled\)", "sourced", cells[-1]) for cells in table] == ["sourced"] * 4
    columns = ("D", "mixture", "chow-liu-mixture", "autoregressive", "mixture of trees", "best published")
    for name, bits, fitted, *figures in table:
        assert [bits, *figures] == [sets[name][header.index(column)].replace("-", "−") for column in columns]
        assert int(fitted.replace(",", "")) * int(bits) + 1 == sizes[name]
