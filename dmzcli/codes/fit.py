"""Fitting priors to bit tables, and keeping with each what it was fitted to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import priors
from dmzcli.codes.draw import check_prefix
from dmzcli.codes.find import owner_of, priors_folder
from dmzcli.codes.given import given_rows, suffix
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError, did_you_mean
from dmzcli.runs.find import find_run
from dmzcli.system.files import sha256
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold
from dmzcli.system.progress import Silence, Talk
from dmzcli.version import __version__
from priors import storage

_MOST_VALUES = 1 << 12
"""Values of the largest variable that a prior is told of: those of larger ones are too many to count."""


@dataclass(frozen=True)
class Fitted:
    """A fitted prior.

    Attributes:
        prior: The prior.
        folder: Folder that it was saved in.
        compared: Held-out bits per code of every kind that ``auto`` tried.
        reused: Whether it was there already, fitted in the same way.
    """

    prior: priors.Prior
    folder: Path
    compared: dict[str, float]
    reused: bool = False


def kinds() -> dict[str, Any]:
    """The registered kinds, with their options."""
    return {kind: priors.describe(kind) for kind in priors.available()}


def listing() -> str:
    """The kinds for a person."""
    lines = []
    for kind, facts in kinds().items():
        lines.append(f"{kind}: {facts['summary']}")
        for name, (type_, default, help_) in facts["options"].items():
            lines.append(f"    {name} = {default} ({type_})  {help_}")
    return "\n".join(lines)


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting} has no '='", "write it as --set name=value")
        pairs[name] = text
    return pairs


def check(kind: str, settings: Sequence[str] = ()) -> None:
    """Refuses what needs no table to be seen as wrong.

    Raises:
        UserError: The kind is unknown, no kind that ``auto`` tries has an option, or a setting is not written as
            ``name=value``.
        priors.PriorError: An option is unknown, or its value does not fit.
    """
    if kind != "auto" and kind not in priors.available():
        raise UserError(f"unknown kind '{kind}'", did_you_mean(kind, ["auto", *priors.available()], "kinds"))
    shared = share_settings(settings, priors.automatic()) if kind == "auto" else {kind: list(settings)}
    for name, own in shared.items():
        priors.parse_options(name, _pairs(own))


def share_settings(settings: Sequence[str], kinds: Sequence[str]) -> dict[str, list[str]]:
    """For each of several kinds the settings whose option it has.

    Raises:
        UserError: A setting is of no kind among them, or is not written as ``name=value``.
    """
    options = {kind: priors.describe(kind)["options"] for kind in kinds}
    for name in _pairs(settings):
        if not any(name in known for known in options.values()):
            raise UserError(
                f"none of the kinds compared has the option '{name}'",
                did_you_mean(
                    name, sorted({option for known in options.values() for option in known}), "options"
                ),
            )
    return {
        kind: [setting for setting in settings if setting.partition("=")[0] in options[kind]]
        for kind in kinds
    }


def fit(
    table: BitTable,
    path: Path,
    kind: str = "auto",
    settings: Sequence[str] = (),
    given: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    talk: Talk | None = None,
    run: Path | None = None,
    reuse: bool = False,
    prefix: int | None = None,
) -> Fitted:
    """Fits a prior to a table's train split, makes its choices on the valid split, and saves it.

    Arguments:
        table: The codes.
        path: The table's file.
        kind: A registered kind, or ``auto``: the best held-out likelihood of the automatic ones.
        settings: Options as ``name=value``; with ``auto`` each is for the kinds that have it.
        given: ``labels`` for p(bits | class), the file of a bit table of the same images for p(bits | its bits), or
            ``None``.
        seed: Seed of the fit's randomness.
        out: The prior's folder; by default one named after the kind, and what it is given, in the table's run.
        talk: Receiver of messages and progress.
        run: The run that the prior belongs to, where the table alone does not tell.
        reuse: Take a prior that is there and was fitted in the same way to what is in the table's file.
        prefix: Fit it to so many of the first bits; by default to all.

    Raises:
        UserError: The kind is unknown, the table has no training rows or labels, the other table does not fit, or
            there is no run for the prior and no folder is named; or another command writes the prior.
        priors.PriorError: An option does not fit.
        Interrupted: SIGINT or SIGTERM came; long fits have left a checkpoint beside the prior's folder.
    """
    talk = talk or Silence()
    check(kind, settings)
    if prefix is not None:
        owner = find_run(run) if run is not None else owner_of(path, table.model).run
        if owner is not None:
            check_prefix(owner.config, prefix, table.dim)
        table = table.prefix(prefix)
    train, valid = table.rows("train"), table.rows("valid")
    if len(train) < 2:
        raise UserError(f"{path} has {len(train)} training rows", "a prior is fitted to the train split")
    rows = None if given is None else given_rows(given, table)
    conditions = None if rows is None else rows.bits
    candidates = priors.automatic() if kind == "auto" else [kind]
    options = share_settings(settings, candidates) if kind == "auto" else {kind: list(settings)}
    home = _home(table, path, run) if out is None else out.parent
    noted = {"given": None} if rows is None else rows.facts
    name_end = suffix(given, home, candidates, noted)
    if given is not None and out is None:
        noted = {**noted, "given_name": name_end}
    if prefix is not None:
        name_end += f"-prefix-{prefix}"
        noted = {**noted, "prefix": prefix}
    folders = {name: out or home / f"{name}{name_end}" for name in candidates}
    choice = {"auto": {"kinds": sorted(candidates), "settings": sorted(settings)}} if kind == "auto" else {}
    with ExitStack() as stack:
        for folder in sorted(set(folders.values())):  # in one order, so that no two wait for each other
            stack.enter_context(hold(folder))
        for name in candidates if reuse else ():
            there = fitted_before(table, path, name, options[name], seed, folders[name], {**noted, **choice})
            if there is not None:
                _drop_checkpoints(folders.values())  # of a fit that was killed after its prior was whole
                return Fitted(there, folders[name], there.metadata.get("compared", {}), reused=True)
        fitted = _fit_all(table, folders, options, seed, conditions, train, valid, talk)
        compared = {name: prior.report.valid_bits_per_code for name, prior in fitted.items() if prior.report}
        best = min(compared, key=lambda name: compared[name])
        facts = {
            "dmz": __version__,
            "model": table.model,
            "dataset": table.dataset,
            "given": None,
            "bits": str(path),
            "bits_sha256": table.sha256 or sha256(path),
            **noted,
            **choice,
            **({"compared": compared} if choice else {}),
        }
        fitted[best].save(folders[best], facts)
        _drop_checkpoints(folders.values())
    return Fitted(fitted[best], folders[best], compared if choice else {})


def _new(kind: str, table: BitTable, settings: Sequence[str], seed: int) -> priors.Prior:
    """A prior for a table's codes; where it can follow their variables of several bits, it is told of them."""
    options = priors.parse_options(kind, _pairs(settings))
    most = np.max(table.cardinalities, initial=0)
    if "groups" in priors.describe(kind)["options"] and 2 < most <= _MOST_VALUES:
        options.setdefault("groups", table.groups)
    return priors.create(kind, dim=table.dim, seed=seed, **options)


def _fit_all(
    table: BitTable,
    folders: Mapping[str, Path],
    options: Mapping[str, Sequence[str]],
    seed: int,
    conditions: np.ndarray | None,
    train: np.ndarray,
    valid: np.ndarray,
    talk: Talk,
) -> dict[str, priors.Prior]:
    """A fitted prior of every kind that has a folder."""
    fitted: dict[str, priors.Prior] = {}
    with collected() as signals, talk.task("fitting", 100 * len(folders)) as advance:
        for done, name in enumerate(folders):

            def progress(share: float, message: str, done: int = done, name: str = name) -> None:
                advance(100 * (done + share), f"{name} {message}")
                if signals:
                    raise Interrupted(signals[0], "the fit so far is kept; run the same command to go on")

            prior = _new(name, table, options[name], seed)
            prior.fit(
                table.bits[train],
                valid=table.bits[valid] if len(valid) else None,
                given=None if conditions is None else conditions[train],
                given_valid=None if conditions is None or not len(valid) else conditions[valid],
                progress=progress,
                checkpoint=folders[name].parent / f".{folders[name].name}.fit",
            )
            fitted[name] = prior
    return fitted


def _home(table: BitTable, path: Path, run: Path | None) -> Path:
    """The folder of a table's priors: that of its run, where all commands look for them."""
    if run is None and owner_of(path, table.model).run is None:
        raise UserError(
            f"no run has the weights that made {path}",
            "name the run with --run, or the prior's folder with --out, and give that to the commands that need it",
        )
    return priors_folder(table, path, run)


def fitted_before(
    table: BitTable,
    path: Path,
    kind: str,
    settings: Sequence[str],
    seed: int,
    folder: Path,
    noted: Mapping[str, Any] | None = None,
) -> priors.Prior | None:
    """The prior in a folder, if it is what :func:`fit` would make again: of this version, table, options and seed.

    Arguments:
        table, path, kind, settings, seed: As for :func:`fit`.
        folder: The prior's.
        noted: What its metadata has to say besides; by default that it is given nothing.

    Raises:
        priors.PriorError: The folder is damaged.
        UserError: Another command writes it.
    """
    if not (folder / "prior.json").exists():
        return None
    prior = priors.load(folder)
    fresh = _new(kind, table, settings, seed)
    same = (prior.kind, prior.dim, prior.seed, prior.options) == (kind, table.dim, seed, fresh.options)
    if not same:  # before the table is read
        return None
    facts = {"dmz": __version__, "bits_sha256": table.sha256 or sha256(path), **(noted or {"given": None})}
    if not facts.items() <= prior.metadata.items() or prior.saved_law != prior.law:
        return None
    with hold(folder):
        storage.tidy(folder)
        _drop_checkpoints([folder])
    return prior


def _drop_checkpoints(folders: Iterable[Path]) -> None:
    import shutil

    for folder in folders:
        shutil.rmtree(folder.parent / f".{folder.name}.fit", ignore_errors=True)
