"""Run directories: everything of one experiment in one folder.

``config.json``, ``model.safetensors`` (averaged weights), ``train-state/``, ``metrics.jsonl``, ``bits.h5``,
``priors/<kind>/``, ``samples/``, ``report.html``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dmzcli.config import Config, parse
from dmzcli.data.formats.archives import stem
from dmzcli.errors import UserError
from dmzcli.system.files import load_tensors, read_json, save_tensors, sha256, write_json

if TYPE_CHECKING:
    import torch

    from dmzcli.model.autoencoder import Autoencoder

ROOT = Path("runs")


@dataclass(frozen=True)
class Run:
    """One run directory; files are read when they are asked for."""

    path: Path

    @property
    def weights(self) -> Path:
        """The averaged weights."""
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        """What training needs to go on."""
        return self.path / "train-state" / "state.safetensors"

    @property
    def imported(self) -> Path:
        """What ``dmz import-weights`` made the run's first weights of; absent where they were drawn."""
        return self.path / "import.json"

    @property
    def untrained(self) -> bool:
        """Whether the weights are imported ones that no training went on with yet."""
        return self.imported.exists() and not self.state.exists()

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def bits(self) -> Path:
        """The bit table that ``dmz encode`` writes without ``--out``."""
        return self.path / "bits.h5"

    @property
    def priors(self) -> Path:
        """One folder per fitted kind."""
        return self.path / "priors"

    @property
    def samples(self) -> Path:
        """Folders of generated images."""
        return self.path / "samples"

    @cached_property
    def config(self) -> Config:
        """The resolved configuration.

        Raises:
            UserError: ``config.json`` is missing or damaged.
        """
        file = self.path / "config.json"
        if not file.exists():
            raise UserError(
                f"{self.path} is no run directory: it has no config.json", "train one with dmz train"
            )
        config = parse(read_json(file), str(file))
        if None in (
            config.data.size,
            config.data.channels,
            config.model.attention,
            config.model.cross_attention,
        ):
            raise UserError(
                f"{file} is not resolved: sizes or resolutions are empty", "restore the run's own file"
            )
        return config

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of ``model.safetensors``."""
        if not self.weights.exists():
            raise UserError(
                f"{self.path} has no model.safetensors yet", f"train it with dmz train --run {self.path}"
            )
        return sha256(self.weights)

    def check_made(self, path: Path, model: str) -> None:
        """Raises UserError unless the run's weights made the bit table ``path``, by what it says of its ``model``."""
        if model != self.weights_hash:
            raise UserError(
                f"{path} holds the bits of another model than {self.weights}",
                f"encode anew with dmz encode --run {self.path}",
            )

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of ``metrics.jsonl``; a last line cut short by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                try:
                    row = json.loads(line)
                    row["step"] + 0  # complains if it is no row of ours
                except (ValueError, TypeError, KeyError) as error:
                    raise UserError(
                        f"{self.metrics} has a damaged line: {line[:60]!r}", "delete that line"
                    ) from error
                rows.append(row)
        return rows

    def save_config(self, config: Config) -> None:
        """Writes ``config.json``."""
        write_json(self.path / "config.json", config.model_dump(mode="json"))
        self.__dict__.pop("config", None)

    def load_model(self, device: torch.device) -> Autoencoder:
        """The autoencoder with its averaged weights, in evaluation mode.

        Raises:
            UserError: A file is missing, damaged, or belongs to another model.
        """
        from dmzcli.model.autoencoder import Autoencoder

        model = Autoencoder(self.config)
        if not self.weights.exists():
            raise UserError(
                f"{self.path} has no model.safetensors yet", f"train it with dmz train --run {self.path}"
            )
        load_into(model, self.weights)
        return model.to(device).eval()


def load_into(model: torch.nn.Module, path: Path) -> dict[str, str]:
    """Loads weights into a model; every name and shape must agree.

    Returns:
        The file's metadata.
    """
    tensors, metadata = load_tensors(path)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        name = min(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        raise UserError(
            f"{path} does not fit its config.json: {name} is {found.get(name, 'missing')}, "
            f"not {wanted.get(name, 'there')}",
            "weights and config.json must come from the same run",
        )
    model.load_state_dict(tensors)
    return metadata


def save_weights(path: Path, tensors: dict[str, torch.Tensor], step: int, config: Config) -> None:
    """Writes a model's weights. One metadata entry only: their order in the file is not fixed, its bytes must be."""
    facts = {
        "step": step,
        "experiment": config.experiment(),
    }  # not how often it was logged, nor where its data lay
    save_tensors(path, tensors, {"dmz": json.dumps(facts, sort_keys=True)})


def _newest(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)


def runs_in(root: Path) -> list[Run]:
    """The runs below a folder that have weights."""
    found = root.glob("*/model.safetensors")
    return [Run(path.parent) for path in found if (path.parent / "config.json").exists()]


def same_dataset(trained: str, wanted: str) -> bool:
    """Whether a run's dataset is the wanted one: by name, by path, or a path by its stem."""
    return wanted in (trained, stem(Path(trained))) or str(Path(wanted).absolute()) == trained


def _pack_name(path: str) -> str | None:
    """The name of the dataset that an image pack holds; ``None`` where the path is none."""
    from dmzcli.data.packs import attributes, is_pack

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
    found = runs_in(root)
    if dataset is not None:
        inside = _pack_name(dataset)
        trained = ((run, run.config.data.dataset) for run in found)
        found = [run for run, name in trained if same_dataset(name, dataset) or name == inside]
    newest = _newest([run.weights for run in found if fits(run)] or [run.weights for run in found])
    if newest is None:
        which = f" trained on '{dataset}'" if dataset else ""
        target = f" {dataset}" if dataset else ""
        raise UserError(
            f"there is no run{which} in {root}/", f"train one with dmz train{target}, or name it with --run"
        )
    return Run(newest.parent)


def find_run_of(model: str, root: Path = ROOT) -> Run | None:
    """The run whose weights have the SHA-256 ``model``, in ``root`` or beside it."""
    return next(
        (run for place in (root, root.parent) for run in runs_in(place) if run.weights_hash == model), None
    )


def find_bits(path: Path | None = None, run: Path | None = None, root: Path = ROOT) -> Path:
    """The bit table that a command works on: the named one, a run's, or the newest in sight.

    In sight are ``runs/*/bits.h5`` and the tables in the working folder.

    Raises:
        UserError: There is none.
    """
    from dmzcli.bits import is_bit_table

    if path is not None:
        return path
    if run is not None:
        if not Run(run).bits.exists():
            raise UserError(f"{run} has no bits.h5", f"make it with dmz encode --run {run}")
        return Run(run).bits
    newest = _newest([*root.glob("*/bits.h5"), *filter(is_bit_table, Path().glob("*.h5"))])
    if newest is None:
        raise UserError(f"there is no bit table in {root}/ or here", "make one with dmz encode, or name it")
    return newest
