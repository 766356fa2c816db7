"""Where an evaluation's images and its reference come from: a run and its prior, or files of anyone's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dmzcli.codes.draw import draw_bits
from dmzcli.config import DataConfig, data_settings
from dmzcli.data import Dataset
from dmzcli.diffusion.samplers import resolved
from dmzcli.errors import UserError
from dmzcli.evaluation.image_sets import ImageSet, read_images
from dmzcli.generation.decode import usual_batch
from dmzcli.generation.samples import Plan, sample
from dmzcli.runs import Run
from dmzcli.runs.find import find_run_of
from dmzcli.runs.plan import locate
from dmzcli.system.files import read_json
from dmzcli.system.progress import Talk

INCEPTION_CHANNELS = 3


def run_of(samples: Path) -> Run | None:
    """The run that made a folder of samples: the one it lies in, or one of the same weights; ``None`` for others'."""
    if not (samples / "plan.json").exists():
        return None
    model = read_json(samples / "plan.json").get("model")
    around = Run(samples.resolve().parents[1])
    if (around.path / "config.json").exists() and around.weights.exists() and around.weights_hash == model:
        return Run(samples.parents[1]) if len(samples.parts) > 2 else around
    return find_run_of(str(model))


def drawn(
    run: Run,
    prior: str | None,
    count: int,
    seed: int,
    recipe: Mapping[str, Any],
    device: Any,
    batch_size: int | None,
    talk: Talk,
) -> tuple[ImageSet, Path]:
    """Images of a run, made where ``dmz sample`` would make them, or found there.

    Arguments:
        run: The run.
        prior: Whose bits; ``None`` for the newest.
        count: How many.
        seed: Of bits and noise.
        recipe: The other fields of :class:`~dmzcli.generation.samples.Plan` that say how to sample.
        device: Where to compute.
        batch_size: Images at a time; ``None`` for what suits the device.
        talk: Who listens.

    Returns:
        The images, and their folder.
    """
    model = run.load_model(device)
    source = draw_bits(run, model.dim, prior, count, seed, recipe["temperature"])
    chosen = resolved(recipe, model.config.diffusion)
    wanted = Plan(run.weights_hash, source.name, source.sha256, count, seed, **chosen)
    folder = run.samples / wanted.folder_name()
    talk.say(f"sampling {count:,} images from {run.path} with bits from {source.name} into {folder}")
    sample(model, source.bits, wanted, folder, batch_size or usual_batch(model), talk)
    return read_images(folder), folder


def reference_data(
    against: str | None, run: Run | None, settings: Sequence[str], data_dir: Path | None
) -> DataConfig:
    """Which dataset to compare with, and how its images are read.

    Arguments:
        against: A dataset; read as ``dmz train`` would read it.
        run: The run that made the samples; its dataset is the default.
        settings: ``data.*`` entries for ``against``.
        data_dir: Where it lies.

    Raises:
        UserError: Neither names a dataset, or a setting is none of the data.
    """
    if against is None:
        if run is None:
            raise UserError(
                "there is nothing to compare with", "name a dataset with --against, or a run with --run"
            )
        if settings:
            raise UserError("--set says how --against is read, which is missing", "add --against DATASET")
        data = run.config.data
    else:
        data = data_settings(against, settings, {"dataset": locate(against)})
    return data if data_dir is None else data.model_copy(update={"data_dir": str(data_dir)})


def usual_features(dataset: Dataset) -> str:
    """The features for a dataset where none are asked for: Inception was trained on colour photographs."""
    return "inception" if dataset.images.shape[3] == INCEPTION_CHANNELS else "classifier"
