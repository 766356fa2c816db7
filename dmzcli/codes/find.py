"""Which bit table, and which prior, a command works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import priors
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError, did_you_mean
from dmzcli.runs.find import ROOT, find_run, find_run_of, newest, runs_in, same_dataset
from dmzcli.runs.run import Run
from dmzcli.system.files import read_json, write_json


@dataclass(frozen=True)
class Owner:
    """The run that a bit table belongs to.

    Attributes:
        run: The run whose weights made it; or the one that keeps it, though its weights are others by now; or ``None``.
        stale: Whether the run's weights are others than those that made it.
    """

    run: Run | None
    stale: bool

    def remark(self, path: Path, dataset: str) -> str:
        """What to say of a stale table; empty where it is of the run's weights, or of no known run.

        Arguments:
            path: The table's file.
            dataset: Identity of the dataset that was encoded.
        """
        if self.run is None or not self.stale:
            return ""
        out = "" if path.resolve() == self.run.bits.resolve() else f" --out {path}"
        name = dataset.partition("/")[0]
        of = "" if same_dataset(self.run.config.data.dataset, name) else f" {name}"
        return (
            f"{path} holds the bits of other weights than {self.run.weights} has now; "
            f"dmz encode{of} --run {self.run.path}{out} makes it anew"
        )


def tables_of(run: Run) -> list[Path]:
    """The bit tables of a run that are there: its own, then those that ``dmz encode --out`` wrote elsewhere."""
    known = read_json(run.other_tables)["tables"] if run.other_tables.exists() else []
    return [path for path in [run.bits, *map(Path, known)] if path.exists()]


def remember_table(run: Run, path: Path) -> None:
    """Notes in a run that a table of it lies elsewhere."""
    if path.resolve() == run.bits.resolve():
        return
    others = [str(known) for known in tables_of(run) if known not in (run.bits, path.resolve())]
    # Written though it may say so already: writing sweeps what a killed writer left.
    write_json(run.other_tables, {"tables": [*others, str(path.resolve())]})


def owner_of(path: Path, model: str) -> Owner:
    """The run of a bit table, by the weights that made it, else by where it lies or which run notes it.

    Arguments:
        path: The table's file.
        model: SHA-256 of the weights that made it.
    """
    beside = Run(path.parent) if (path.parent / "config.json").exists() else None
    if beside is not None and beside.weights.exists() and beside.weights_hash == model:
        return Owner(beside, False)
    maker = find_run_of(model)
    if maker is not None:
        return Owner(maker, False)
    if beside is None:
        noted = (
            run for run in runs_in(ROOT) if path.resolve() in [known.resolve() for known in tables_of(run)]
        )
        beside = next(noted, None)
    return Owner(beside, beside is not None)


def find_bits(path: Path | None = None, run: Path | None = None, root: Path = ROOT) -> Path:
    """The bit table that a command works on: the named one, a run's, or the newest in sight.

    A run's is its ``bits.h5``, or the newest that ``dmz encode --out`` wrote elsewhere. In sight are the tables of the
    runs, and those in the working folder.

    Raises:
        UserError: There is none.
    """
    from dmzcli.codes.table import is_bit_table

    if path is not None:
        return path
    if run is not None:
        own = Run(run).bits if Run(run).bits.exists() else newest(tables_of(Run(run)))
        if own is None:
            raise UserError(f"{run} has no bits.h5", f"make it with dmz encode --run {run}")
        return own
    elsewhere = [table for known in runs_in(root) for table in tables_of(known) if table != known.bits]
    here = [*root.glob("*/bits.h5"), *filter(is_bit_table, Path().glob("*.h5"))]
    there = {table.resolve() for table in here}
    latest = newest([*here, *(table for table in elsewhere if table.resolve() not in there)])
    if latest is None:
        raise UserError(f"there is no bit table in {root}/ or here", "make one with dmz encode, or name it")
    return latest


def priors_folder(table: BitTable, path: Path, run: Path | None = None) -> Path:
    """Where the priors of a table belong: in the named run, in the table's own run, or beside the table.

    Raises:
        UserError: The named run's weights did not make the table.
    """
    if run is not None:
        named = find_run(run)
        named.check_made(path, table.model)
        return named.priors
    owner = owner_of(path, table.model).run
    return owner.priors if owner else path.parent / f"{path.stem}-priors"


def newest_by_class(run: Run) -> Path | None:
    """The folder of the run's newest prior that is given labels; ``None`` where there is none."""
    cards = (file for file in run.priors.glob("*/prior.json"))
    by_class = (file for file in cards if read_json(file).get("metadata", {}).get("given") == "labels")
    latest = newest(by_class)
    return None if latest is None else latest.parent


def find_prior(run: Run, name: str | None) -> Path:
    """The folder of a run's prior: a kind's, a path, or the newest; one of all bits rather than of the first.

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
        whole = [file for file in folders.values() if "prefix" not in read_json(file).get("metadata", {})]
        return max(whole or folders.values(), key=lambda file: file.stat().st_mtime_ns).parent
    if name in folders:
        return folders[name].parent
    if Path(name).is_dir():
        return Path(name)
    has = f"{run.path} has {', '.join(sorted(folders)) or 'none'}"
    if name in priors.available():
        raise UserError(
            f"{run.path} has no prior '{name}'",
            f"{has}; fit it with dmz fit-prior --run {run.path} --kind {name}",
        )
    close = did_you_mean(name, folders, "priors")  # a kind that was not fitted is no help
    meant = f"; {close}" if close.startswith("did you mean") else ""
    raise UserError(f"there is no prior '{name}'", f"{has}, or name a prior's folder{meant}")


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


def load_prior(folder: Path, run: Run, dim: int, shorter: bool = False) -> priors.Prior:
    """A saved prior that fits a run; with ``shorter``, also one of the first of its nested bits.

    Raises:
        UserError: It has another dimension, or was fitted to the bits of another model.
        priors.PriorError: The folder is damaged.
    """
    prior = priors.load(folder)
    if prior.dim != dim and not (run.config.model.nested and prior.dim < dim and shorter):
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
