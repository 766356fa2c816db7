"""Options that have one spelling and one meaning in every command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dmzcli.commands.console import Console
    from dmzcli.config import DataConfig
    from dmzcli.data import Dataset
    from dmzcli.system.progress import Advance

RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run directory; by default the newest that fits.")
]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Where the dataset lies.")]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch the dataset if it is not there.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:0, … or mps; by default the best.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="T, evaluations of the network per image.")]
SamplerOption = Annotated[
    str,
    typer.Option(
        "--sampler",
        help="ancestral and dpm++-sde add noise at every step; ddim, dpm++ (2M) and unipc follow the ODE.",
    ),
]
SpacingOption = Annotated[
    str | None,
    typer.Option(
        "--spacing",
        help="Which timesteps: uniform, ddim, leading, trailing, quadratic, log-snr; by default the sampler's own.",
    ),
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="inception, dinov2, clip, classifier, or a name of torch-fidelity's; by default inception for "
        "colour images and classifier for grey ones.",
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="The feature network's weights, instead of a download.")
]
EtaOption = Annotated[
    float, typer.Option("--eta", help="DDIM's noise: 0 none, 1 as much as the ancestral sampler.")
]
ThresholdOption = Annotated[
    str,
    typer.Option(
        "--threshold",
        help="How each estimate of the image is bounded: clip to [-1, 1], dynamic (scaled down by a percentile "
        "of its own pixels), or none.",
    ),
]
PercentileOption = Annotated[
    float, typer.Option("--percentile", help="Of the dynamic threshold, above 0 and up to 1.")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision", help="no (float32), bf16, or auto: bf16 where the device has instructions for it."
    ),
]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", help="Of the prior; below 1 its likelier codes.")
]
BatchSizeOption = Annotated[int | None, typer.Option("--batch-size", min=1, help="Images at a time.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.")
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read, and count them.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr but errors.")]


def console(quiet: bool, as_json: bool) -> Console:
    """The console of a command; of several processes, only the main one's prints."""
    from dmzcli.commands.console import Console
    from dmzcli.system import processes

    return Console(quiet=quiet, as_json=as_json, mute=not processes.main())


def listed(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuses options that were given and mean nothing: whoever gives them expects otherwise.

    Raises:
        UserError: One of them was given.
    """
    from dmzcli.errors import UserError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(f"--{name.replace('_', '-')} means nothing {why}", "leave it out")


def load_dataset(talk: Console, data: DataConfig, download: bool = False) -> Dataset:
    """Loads a configuration's dataset, telling of it; pictures are prepared once and cached."""
    from dmzcli.data import load
    from dmzcli.errors import UserError

    if not data.dataset:
        raise UserError(
            "the run was imported without a dataset", "train it on one: dmz train DATASET --run DIR"
        )

    from dmzcli.system import processes

    with processes.first_of_machine(), talk.task(f"reading {data.dataset}", 1) as advance:
        options = dataset_options(data, download)
        images = load(data.dataset, **options, cache=True, progress=counting(advance), say=talk.say)
    for note in images.notes:
        talk.say(f"{images.name}: {note}")
    return images


def dataset_options(data: DataConfig, download: bool) -> dict[str, Any]:
    """A configuration's dataset as arguments of :func:`dmzcli.data.load`."""
    names = ("data_dir", "size", "fit", "channels", "side", "skip_bad")
    return {name: getattr(data, name) for name in names} | {"download": download}


def data_flags(data_dir: Path | None, skip_bad: bool) -> dict[str, Any]:
    """The flags that were given, as settings."""
    place = {} if data_dir is None else {"data_dir": str(data_dir.expanduser().absolute())}
    return {**place, "skip_bad": True} if skip_bad else place


def counting(advance: Advance) -> Callable[[int, int], None]:
    """Turns counts of images into the progress of one task."""
    return lambda done, total: advance(done / max(total, done, 1), f"{done:,} images")
