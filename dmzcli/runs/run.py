"""Run directories: everything of one experiment in one folder.

``config.json``, ``model.safetensors`` (averaged weights), ``train-state/``, ``metrics.jsonl``, ``bits.h5``,
``priors/<kind>/``, ``samples/``, ``tuned-steps.json``, ``report.html``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dmzcli.config import Config, parse
from dmzcli.errors import UserError
from dmzcli.system.files import (
    first_not_finite,
    load_signed,
    load_tensors,
    read_json,
    read_metadata,
    save_tensors,
    sha256,
    write_json,
)
from dmzcli.system.reading import UNPACKED_BYTES, loads_object, read_bytes

if TYPE_CHECKING:
    import torch

    from dmzcli.model.autoencoder import Autoencoder


@dataclass(frozen=True)
class Run:
    """One run directory; files are read when they are asked for."""

    path: Path

    @property
    def settings(self) -> Path:
        """The resolved settings."""
        return self.path / "config.json"

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
    def averages(self) -> Path:
        """Averages of the weights as they were, of which ``dmz average`` makes others."""
        return self.path / "averages"

    @property
    def average_of(self) -> Path:
        """What ``dmz average`` made the run's weights of; absent where they were trained or imported."""
        return self.path / "average.json"

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
    def other_tables(self) -> Path:
        """Where the tables lie that ``dmz encode --out`` wrote: JSON, ``tables``, a list of paths."""
        return self.path / "tables.json"

    @property
    def priors(self) -> Path:
        """One folder per fitted kind."""
        return self.path / "priors"

    @property
    def samples(self) -> Path:
        """Folders of generated images."""
        return self.path / "samples"

    @property
    def tuned(self) -> Path:
        """The timesteps that ``dmz tune-steps`` found, per sampler and T, for the weights that it names."""
        return self.path / "tuned-steps.json"

    @cached_property
    def config(self) -> Config:
        """The resolved configuration.

        Raises:
            UserError: ``config.json`` is missing or damaged.
        """
        file = self.settings
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
        """SHA-256 of ``model.safetensors``: of those weights that :meth:`load_model` gave last, if it did.

        So a command signs what it makes with the weights that made it, whatever training has written meanwhile.
        """
        if not self.weights.exists():
            raise UserError(
                f"{self.path} has no model.safetensors yet", f"train it with dmz train --run {self.path}"
            )
        return sha256(self.weights)

    @property
    def stopped(self) -> tuple[int, int] | None:
        """The weights' step, and that of the settings, where training has not come to its end yet."""
        if self.untrained or not self.weights.exists():
            return None
        try:
            step = int(loads_object(read_metadata(self.weights).get("dmz", "{}")).get("step", 0))
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(
                f"{self.weights} does not say which step it is of: its metadata is damaged",
                "restore the file, or train the run on",
            ) from error
        steps = self.config.training.steps
        return (step, steps) if 0 < step < steps else None

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
        for line in read_bytes(self.metrics, UNPACKED_BYTES).splitlines(keepends=True):
            if line.endswith(b"\n"):
                try:
                    row = loads_object(line)
                    if not all(isinstance(value, int | float) for value in [row["step"], *row.values()]):
                        raise ValueError("it holds other things than numbers")
                except (ValueError, KeyError) as error:
                    raise UserError(
                        f"{self.metrics} has a damaged line: {line[:60]!r}", "delete that line"
                    ) from error
                rows.append(row)
        return rows

    def save_config(self, config: Config) -> None:
        """Writes ``config.json``."""
        write_json(self.settings, config.model_dump(mode="json"))
        self.__dict__.pop("config", None)

    def load_model(self, device: torch.device) -> Autoencoder:
        """The autoencoder with its averaged weights, in evaluation mode.

        Raises:
            UserError: A file is missing, damaged, or belongs to another model.
        """
        import torch

        from dmzcli.model.autoencoder import Autoencoder

        if not self.weights.exists():
            raise UserError(
                f"{self.path} has no model.safetensors yet", f"train it with dmz train --run {self.path}"
            )
        tensors, _, digest = load_signed(self.weights)
        with torch.device("meta"):  # the settings may announce more than fits any memory
            check_fits(Autoencoder(self.config), tensors, self.weights)
        model = Autoencoder(self.config)
        model.load_state_dict(tensors)
        self.__dict__["weights_hash"] = digest
        return model.to(device).eval()

    def save_model(self, tensors: dict[str, torch.Tensor], step: int, config: Config) -> None:
        """Writes ``model.safetensors``."""
        save_weights(self.weights, tensors, step, config)
        self.__dict__.pop("weights_hash", None)


def load_into(model: torch.nn.Module, path: Path) -> dict[str, str]:
    """Loads weights into a model; every name and shape must agree.

    Returns:
        The file's metadata.
    """
    tensors, metadata = load_tensors(path)
    check_fits(model, tensors, path)
    model.load_state_dict(tensors)
    return metadata


def check_fits(model: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Raises UserError unless weights have a model's names and shapes, and are finite numbers."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != stored:
        name = min(k for k in expected.keys() | stored.keys() if expected.get(k) != stored.get(k))
        raise UserError(
            f"{path} does not fit its config.json: {name} is {stored.get(name, 'missing')}, "
            f"not {expected.get(name, 'there')}",
            "weights and config.json must come from the same run",
        )
    wrong = first_not_finite(tensors)
    if wrong is not None:
        raise UserError(
            f"{path}: {wrong} holds numbers that are not finite",
            "restore the file, or train the run anew with a lower training.learning_rate",
        )


def save_weights(path: Path, tensors: dict[str, torch.Tensor], step: int, config: Config) -> None:
    """Writes a model's weights; the same bytes for the same ones."""
    facts = {
        "step": step,
        "experiment": config.experiment(),
    }  # not how often it was logged, nor where its data lay
    save_tensors(path, tensors, {"dmz": json.dumps(facts, sort_keys=True)})
