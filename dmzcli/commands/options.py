"""Options that have one spelling and one meaning in every command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from dmzcli.commands import bounds
from dmzcli.diffusion.thresholds import KINDS
from dmzcli.generation.recipe import Recipe

if TYPE_CHECKING:
    from dmzcli.commands.console import Console
    from dmzcli.config import DataConfig
    from dmzcli.data import Dataset
    from dmzcli.runs import Run
    from dmzcli.system.progress import Advance

Command = TypeVar("Command", bound=Callable[..., None])

RunOption = Annotated[
    Path | None, typer.Option("--run", help="Run directory; by default the newest that fits.")
]
PairOption = Annotated[
    str | None,
    typer.Option(
        "--pair", metavar="NAME", help="A pair of runs, runs/NAME-A and runs/NAME-B, instead of one run."
    ),
]
DirectionOption = Annotated[
    str, typer.Option("--direction", help="With --pair: A-to-B or B-to-A, from which side to which.")
]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Where the dataset lies.")]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch the dataset if it is not there.")]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", callback=bounds.device, help="cpu, cuda, cuda:0, … or mps; by default the best."
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=bounds.MOST_SEED, help="Seed of everything random.")
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--features",
        help="inception, dinov2, clip, classifier, or a name of torch-fidelity's; by default inception for "
        "color images and classifier for gray ones.",
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="The feature network's weights, instead of a download.")
]
TemperatureOption = Annotated[
    float,
    typer.Option(
        "--temperature",
        min=bounds.COLDEST,
        callback=bounds.finite,
        help="Temperature of the prior; below 1 its likelier codes.",
    ),
]
RoundOption = Annotated[
    bool,
    typer.Option(
        "--round",
        help="Every bit of the map at its likelier value, as the paper's map has it; draws differ in noise.",
    ),
]
BatchSizeOption = Annotated[
    int | None, typer.Option("--batch-size", min=1, max=bounds.MOST_IMAGES, help="Images at a time.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeatable.")
]
DataSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="How the dataset is read, such as data.fit=crop; repeatable."
    ),
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read, and count them.")
]
PrefixOption = Annotated[
    int | None,
    typer.Option("--prefix", min=1, max=65536, help="Of nested bits, how many of the first; by default all."),
]
FitOption = Annotated[
    str | None,
    typer.Option(
        "--fit", help="How a picture gets the model's size: resize, pad, crop; by default as in training."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr but errors.")]

RECIPE: dict[str, Any] = {
    "steps": Annotated[
        int,
        typer.Option(
            "--steps", min=1, max=bounds.MOST_STEPS, help="T, evaluations of the network per image."
        ),
    ],
    "sampler": Annotated[
        str, typer.Option("--sampler", help="How noise becomes an image; dmz sample --samplers lists them.")
    ],
    "spacing": Annotated[
        str | None,
        typer.Option(
            "--spacing",
            help="Which timesteps; by default the sampler's own. dmz sample --samplers lists them.",
        ),
    ],
    "eta": Annotated[
        float,
        typer.Option("--eta", help="DDIM's noise: 0 none, 1 as much as the ancestral sampler."),
    ],
    "threshold": Annotated[
        str,
        typer.Option("--threshold", help=f"How each estimate of the image is bounded: {', '.join(KINDS)}."),
    ],
    "percentile": Annotated[
        float,
        typer.Option(
            "--percentile",
            help="Percentile of the dynamic threshold, above 0 and up to 1.",
        ),
    ],
    "precision": Annotated[
        str,
        typer.Option(
            "--precision",
            help="no (float32), bf16, or auto: bf16 where a convolution shows on this machine that it is faster.",
        ),
    ],
    "guidance": Annotated[
        float,
        typer.Option(
            "--guidance",
            help="w, of nested bits: how far beyond what the network says without them; 1 is none.",
        ),
    ],
    "guidance_interval": Annotated[
        str | None,
        typer.Option(
            "--guidance-interval",
            metavar="FROM,TO",
            help="Noise levels, noise over signal, at which guidance acts; by default all.",
        ),
    ],
}


def recipe_options(*names: str, **defaults: Any) -> Callable[[Command], Command]:
    """Gives a command the options of a recipe in place of its parameter ``recipe``.

    Arguments:
        names: Which of the recipe's fields can be chosen; all if none is named.
        defaults: Values of fields that are not :class:`~dmzcli.generation.recipe.Recipe`'s own defaults.
    """
    usual = vars(Recipe(**defaults))

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        options = [
            inspect.Parameter(name, keyword, default=usual[name], annotation=option)
            for name, option in RECIPE.items()
            if name in (names or RECIPE)
        ]
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            parameters += options if parameter.name == "recipe" else [parameter.replace(kind=keyword)]

        @functools.wraps(command)
        def with_recipe(**arguments: Any) -> Any:
            fields = {option.name: arguments.pop(option.name) for option in options}
            recipe = Recipe(**{**usual, **fields})
            recipe.check()
            return command(recipe=recipe, **arguments)

        with_recipe.__annotations__ = {p.name: p.annotation for p in parameters}
        with_recipe.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return cast(Command, with_recipe)

    return decorate


def console(quiet: bool, as_json: bool) -> Console:
    """The console of a command; of several processes, only the main one's prints."""
    from dmzcli.commands.console import Console
    from dmzcli.system import processes

    talk = Console(quiet=quiet, as_json=as_json, mute=not processes.main())
    talk.listen()
    return talk


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


def tell_stopped(talk: Console, run: Run) -> None:
    """Says in one line that a run's training has not come to its end."""
    if run.stopped is not None:
        step, steps = run.stopped
        talk.say(f"{run.path} stopped at step {step:,} of {steps:,}; dmz train --run {run.path} goes on")


def counting(advance: Advance) -> Callable[[int, int], None]:
    """Turns counts of images into the progress of one task."""
    return lambda done, total: advance(done / max(total, done, 1), f"{done:,} images")
