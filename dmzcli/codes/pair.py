"""The bits of a pair: two tables whose rows belong together, and the map between them, p(bits of B | bits of A).

The map from A to B is a prior of run B's bits that is given the bits of run A's table, and lies among B's priors.
"""

from __future__ import annotations

from pathlib import Path

import priors
from dmzcli.codes.find import load_prior, newest
from dmzcli.codes.given import given_rows
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError, did_you_mean
from dmzcli.runs.pair import PairOfRuns
from dmzcli.runs.run import Run
from dmzcli.system.files import read_json


def check_tables(pair: PairOfRuns) -> tuple[BitTable, BitTable]:
    """The tables of both sides, whose rows belong together and which the runs' present weights made.

    Raises:
        UserError: One is missing or of other weights, or their rows are of other images.
    """
    for run in (pair.a, pair.b):
        if not run.bits.exists():
            raise UserError(f"{run.path} has no bits.h5", f"make both with dmz encode --pair {pair.name}")
    one, two = BitTable.read(pair.a.bits), BitTable.read(pair.b.bits)
    for run, table in ((pair.a, one), (pair.b, two)):
        run.check_made(run.bits, table.model)
    given_rows(str(pair.a.bits), two)
    return one, two


def tables_of_map(pair: PairOfRuns, direction: str) -> tuple[Path, Path]:
    """The files of the bits that are given and of those that are drawn, in this order.

    Raises:
        UserError: There is no such direction, or as :func:`check_tables`.
    """
    source, target = pair.sides(direction)
    check_tables(pair)
    return source.bits, target.bits


def _maps(source: Run, target: Run) -> dict[str, Path]:
    """The cards of the target's priors that are given the source's bits, by the names of their folders."""
    found = {}
    for card in target.priors.glob("*/prior.json"):
        facts = read_json(card).get("metadata", {})
        made = facts.get("given_model") == source.weights_hash
        named = facts.get("given_name") == f"-given-{source.path.name}"
        if made or named:
            found[card.parent.name] = card
    return found


def find_map(pair: PairOfRuns, direction: str, name: str | None = None) -> tuple[Path, priors.Prior]:
    """The folder of a map between the sides, and the map.

    Arguments:
        pair: The pair.
        direction: ``A-to-B`` or ``B-to-A``.
        name: A kind, the name of a prior's folder in the target's run, or a folder's path; ``None`` for the newest.

    Raises:
        UserError: There is none, or it was fitted to the bits of other weights than the runs have now.
        priors.PriorError: The folder is damaged.
    """
    source, target = pair.sides(direction)
    found = _maps(source, target)
    fit = f"dmz fit-prior --pair {pair.name} --direction {direction}"
    if name is None:
        latest = newest(found.values())
        if latest is None:
            raise UserError(f"the pair '{pair.name}' has no map {direction}", f"fit one with {fit}")
        folder = latest.parent
    elif name in found:
        folder = found[name].parent
    elif name in priors.available() and (
        kind := newest(card for key, card in found.items() if read_json(card).get("kind") == name)
    ):
        folder = kind.parent
    elif (Path(name) / "prior.json").exists():
        folder = Path(name)
    else:
        hint = f"fit it with {fit} --kind {name}" if name in priors.available() else ""
        raise UserError(
            f"the pair '{pair.name}' has no map '{name}' {direction}",
            hint or did_you_mean(name, found or priors.available(), "maps" if found else "kinds"),
        )
    prior = load_prior(folder, target, target.config.model.dim)
    if not prior.given_dim or prior.metadata.get("given_model") is None:
        raise UserError(f"{folder} is given no bits of another side", f"fit a map with {fit}")
    if prior.metadata["given_model"] != source.weights_hash:
        raise UserError(
            f"{folder} was given the bits of other weights than {source.weights} has now",
            f"encode and fit again: dmz encode --pair {pair.name}, then {fit}",
        )
    return folder, prior
