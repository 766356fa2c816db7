"""Which run a command works on: the named one, or the newest that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from dmzcli.data.formats.archives import stem
from dmzcli.errors import UserError
from dmzcli.runs.run import Run

ROOT = Path("runs")


def newest(paths: Iterable[Path]) -> Path | None:
    """The path that was changed last; ``None`` of none."""
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)


def runs_in(root: Path) -> list[Run]:
    """The runs below a folder that have weights."""
    files = root.glob("*/model.safetensors")
    return [Run(path.parent) for path in files if (path.parent / "config.json").exists()]


def same_dataset(trained: str, name: str) -> bool:
    """Whether a run's dataset is the one of this name: by name, by path, or a path by its stem."""
    return name in (trained, stem(Path(trained))) or str(Path(name).absolute()) == trained


def _pack_name(path: str) -> str | None:
    """The name of the dataset that an image pack holds; ``None`` where the path is none."""
    from dmzcli.data.packs import is_pack
    from dmzcli.system.hdf5 import attributes

    file = Path(path).expanduser()
    return str(attributes(file).get("name")) if file.is_file() and is_pack(file) else None


def find_run(
    path: Path | None = None,
    dataset: str | None = None,
    fits: Callable[[Run], bool] = lambda run: True,
    root: Path = ROOT,
) -> Run:
    """The run that a command works on: the named one, or the newest that fits.

    Arguments:
        path: The named one; it is taken whether it fits or not, so that the command can say why not.
        dataset: What it was trained on.
        fits: Whether a run has what the command needs; the newest of all where none has.
        root: Where runs are.

    Raises:
        UserError: There is none.
    """
    if path is not None:
        run = Run(path)
        run.config  # noqa: B018  complains here and now if this is no run
        return run
    runs = runs_in(root)
    if dataset is not None:
        inside = _pack_name(dataset)
        trained = ((run, run.config.data.dataset) for run in runs)
        runs = [run for run, name in trained if same_dataset(name, dataset) or name == inside]
    latest = newest([run.weights for run in runs if fits(run)] or [run.weights for run in runs])
    if latest is None:
        which = f" trained on '{dataset}'" if dataset else ""
        target = f" {dataset}" if dataset else ""
        raise UserError(
            f"there is no run{which} in {root}/", f"train one with dmz train{target}, or name it with --run"
        )
    return Run(latest.parent)


def find_run_of(model: str, root: Path = ROOT) -> Run | None:
    """The run whose weights have the SHA-256 ``model``, in ``root`` or beside it."""
    return next(
        (run for place in (root, root.parent) for run in runs_in(place) if run.weights_hash == model), None
    )
