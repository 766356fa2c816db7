"""Which bit table, and which prior, a command works on."""

from __future__ import annotations

from pathlib import Path

import priors
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError, did_you_mean
from dmzcli.runs.find import ROOT, find_run, find_run_of, newest
from dmzcli.runs.run import Run


def find_bits(path: Path | None = None, run: Path | None = None, root: Path = ROOT) -> Path:
    """The bit table that a command works on: the named one, a run's, or the newest in sight.

    In sight are ``runs/*/bits.h5`` and the tables in the working folder.

    Raises:
        UserError: There is none.
    """
    from dmzcli.codes.table import is_bit_table

    if path is not None:
        return path
    if run is not None:
        if not Run(run).bits.exists():
            raise UserError(f"{run} has no bits.h5", f"make it with dmz encode --run {run}")
        return Run(run).bits
    latest = newest([*root.glob("*/bits.h5"), *filter(is_bit_table, Path().glob("*.h5"))])
    if latest is None:
        raise UserError(f"there is no bit table in {root}/ or here", "make one with dmz encode, or name it")
    return latest


def priors_folder(table: BitTable, path: Path, run: Path | None = None) -> Path:
    """Where the priors of a table belong: in the named run, in the run whose weights made it, or beside the table.

    Raises:
        UserError: The named run's weights did not make the table.
    """
    if run is not None:
        named = find_run(run)
        named.check_made(path, table.model)
        return named.priors
    beside = Run(path.parent) if (path.parent / "config.json").exists() else None
    owner = beside or find_run_of(table.model)
    return owner.priors if owner else path.parent / f"{path.stem}-priors"


def find_prior(run: Run, name: str | None) -> Path:
    """The folder of a run's prior: a kind's, a path, or the newest.

    Raises:
        UserError: There is none.
    """
    folders = {file.parent.name: file for file in run.priors.glob("*/prior.json")}
    if name is None:
        if not folders:
            raise UserError(
                f"{run.path} has no prior",
                f"fit one with dmz fit-prior --run {run.path}, or name a prior's folder",
            )
        return max(folders.values(), key=lambda file: file.stat().st_mtime_ns).parent
    if name in folders:
        return folders[name].parent
    if Path(name).is_dir():
        return Path(name)
    if name in priors.available():
        raise UserError(
            f"{run.path} has no prior '{name}'", f"fit it with dmz fit-prior --run {run.path} --kind {name}"
        )
    hint = did_you_mean(name, {*folders, *priors.available()}, "kinds")
    raise UserError(f"there is no prior '{name}'", f"name a prior of the run, or a prior's folder; {hint}")


def can_sample(run: Run) -> bool:
    """Whether a run has all that sampling needs: a prior, or no latent."""
    return not run.config.model.dim or any(run.priors.glob("*/prior.json"))


def find_run_for(prior: str, path: Path | None) -> Run:
    """The run that a named prior is for: the named run, the one whose bits it was fitted to, or the newest that has it.

    Raises:
        UserError: There is none.
        priors.PriorError: The prior's folder is damaged.
    """
    if path is None and (Path(prior) / "prior.json").exists():
        owner = find_run_of(str(priors.load(prior).metadata.get("model")))
        if owner is not None:
            return owner
    return find_run(path, fits=lambda run: (run.priors / prior / "prior.json").exists())


def load_prior(folder: Path, run: Run, dim: int) -> priors.Prior:
    """A saved prior that fits a run.

    Raises:
        UserError: It has another dimension, or was fitted to the bits of another model.
        priors.PriorError: The folder is damaged.
    """
    prior = priors.load(folder)
    if prior.dim != dim:
        raise UserError(
            f"{folder} is a prior of {prior.dim} bits, the model of {run.path} has {dim}",
            f"fit one to its bits with dmz fit-prior --run {run.path}",
        )
    model = prior.metadata.get("model")
    if model is not None and model != run.weights_hash:
        raise UserError(
            f"{folder} was fitted to the bits of another model than {run.weights}",
            "encode and fit again: dmz encode, then dmz fit-prior",
        )
    return prior
