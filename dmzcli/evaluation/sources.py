"""Where an evaluation's images and its reference come from: a run and its prior, or files of anyone's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dmzcli.config import DataConfig, changed_data, data_settings
from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.runs.find import find_run_of
from dmzcli.runs.plan import locate
from dmzcli.system.files import read_json

INCEPTION_CHANNELS = 3
ENOUGH_TO_LEARN = 1000
"""Images of a valid split that make features worth having."""


def run_of(samples: Path) -> Run | None:
    """The run that made a folder of samples: the one it lies in, or one of the same weights; ``None`` for others'."""
    if not (samples / "plan.json").exists():
        return None
    model = read_json(samples / "plan.json").get("model")
    around = Run(samples.resolve().parents[1])
    if (around.path / "config.json").exists() and around.weights.exists() and around.weights_hash == model:
        return Run(samples.parents[1]) if len(samples.parts) > 2 else around
    return find_run_of(str(model))


def reference_data(
    against: str | None, run: Run | None, settings: Sequence[str], data_dir: Path | None
) -> DataConfig:
    """Which dataset to compare with, and how its images are read.

    Arguments:
        against: A dataset; read as ``dmz train`` would read it.
        run: The run that made the samples; its dataset is the default.
        settings: ``data.*`` entries that change how it is read.
        data_dir: Where it lies.

    Raises:
        UserError: Neither names a dataset, or a setting is none of the data.
    """
    if against is None:
        if run is None:
            raise UserError(
                "there is nothing to compare with", "name a dataset with --against, or a run with --run"
            )
        data = changed_data(run.config.data, settings)
    else:
        data = data_settings(against, settings, {"dataset": locate(against)})
    return data if data_dir is None else data.model_copy(update={"data_dir": str(data_dir)})


def usual_features(dataset: Dataset, split: str) -> str:
    """The features for a reference where none are asked for.

    Inception for color, as it was trained on color photographs; else the classifier that has not seen the split, where
    there are enough images for it.
    """
    if dataset.images.shape[3] == INCEPTION_CHANNELS:
        return "inception"
    unseen = split == "train" and len(dataset.rows("valid")) >= ENOUGH_TO_LEARN
    return "classifier-valid" if unseen else "classifier"
