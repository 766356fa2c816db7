"""Pairs of runs: two autoencoders under one name, one for each side of a dataset of pairs.

The pair ``NAME`` is the runs ``runs/NAME-A`` and ``runs/NAME-B``. Each is a run like any other, and what goes from one
side to the other, a prior p(bits of B | bits of A), lies among the priors of the side that it draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dmzcli.errors import UserError, did_you_mean
from dmzcli.runs.find import ROOT, find_run, runs_in
from dmzcli.runs.run import Run

SIDES = ("A", "B")
DIRECTIONS = ("A-to-B", "B-to-A")


def side_path(pair: Path, side: str) -> Path:
    """The run directory of one side of a pair.

    Example:
        >>> side_path(Path("runs/shoes"), "A").as_posix()
        'runs/shoes-A'
    """
    return pair.with_name(f"{pair.name}-{side}")


def check_direction(direction: str) -> None:
    """Raises UserError unless there is such a direction."""
    if direction not in DIRECTIONS:
        raise UserError(f"unknown direction '{direction}'", did_you_mean(direction, DIRECTIONS, "directions"))


@dataclass(frozen=True)
class PairOfRuns:
    """Two runs that were trained on the sides of one dataset.

    Attributes:
        name: What they are called by.
        a, b: The runs of side A and of side B.
    """

    name: str
    a: Run
    b: Run

    def sides(self, direction: str) -> tuple[Run, Run]:
        """The run that is translated from, and the one that is translated to.

        Raises:
            UserError: There is no such direction.
        """
        check_direction(direction)
        return (self.a, self.b) if direction == "A-to-B" else (self.b, self.a)


def names_of_pairs(root: Path = ROOT) -> list[str]:
    """The pairs of which both sides have weights."""
    there = {run.path.name for run in runs_in(root)}
    return sorted(name[:-2] for name in there if name.endswith("-A") and f"{name[:-2]}-B" in there)


def only_pair(root: Path = ROOT) -> str:
    """The name of the one pair that there is.

    Raises:
        UserError: There is none, or there are several.
    """
    known = names_of_pairs(root)
    if not known:
        raise UserError(f"there is no pair of runs in {root}/", "train one with dmz train PAIRS --pair")
    if len(known) > 1:
        raise UserError(
            f"there are {len(known)} pairs of runs in {root}/", f"name one with --pair: {', '.join(known)}"
        )
    return known[0]


def find_pair(name: str, root: Path = ROOT) -> PairOfRuns:
    """The pair of a name, or of a path without ``-A`` and ``-B``.

    Raises:
        UserError: One side or both are missing, a side is the other one's, the runs are of different datasets, or one
            has no bits.
    """
    path = Path(name)
    path = root / name if path.name == name else path
    there = [side for side in SIDES if (side_path(path, side) / "config.json").exists()]
    if not there:
        known = names_of_pairs(root)
        meant = did_you_mean(path.name, known, "pairs") + "; or" if known else "there is none yet;"
        raise UserError(f"there is no pair '{name}'", f"{meant} train one with dmz train PAIRS --pair")
    missing = next((side for side in SIDES if side not in there), None)
    if missing is not None:
        lost, other = side_path(path, missing), find_run(side_path(path, there[0]))
        raise UserError(
            f"the pair '{name}' has no side {missing}: {lost} is not there",
            f"train it: dmz train {other.config.data.dataset} --run {lost} --set data.side={missing}",
        )
    pair = PairOfRuns(path.name, *(find_run(side_path(path, side)) for side in SIDES))
    for side, run in zip(SIDES, (pair.a, pair.b), strict=True):
        if run.config.data.side not in (None, side):
            raise UserError(
                f"{run.path} was trained on side {run.config.data.side} of its pairs, not on side {side}",
                "the sides are swapped: rename the two run directories",
            )
        if not run.config.model.dim:
            raise UserError(
                f"{run.path} is a plain diffusion model (latent 'none'), which has no bits to translate",
                "train both sides with bits",
            )
    if pair.a.config.data.side is not None and pair.a.config.data.dataset != pair.b.config.data.dataset:
        raise UserError(
            f"{pair.a.path} and {pair.b.path} were trained on different datasets: "
            f"{pair.a.config.data.dataset} and {pair.b.config.data.dataset}",
            "a pair is the two sides of one dataset; name its runs alike",
        )
    return pair
