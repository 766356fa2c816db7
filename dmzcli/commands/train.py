"""``dmz train``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common

if TYPE_CHECKING:
    from dmzcli.commands.console import Console


def train(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="A registered dataset (see dmz data list), a folder or archive of images, or an image pack. "
            "Default: digits."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Named settings; by default those named like the dataset, if any."),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Run directory; by default runs/<name>.")] = None,
    data_dir: common.DataDirOption = None,
    download: common.DownloadOption = False,
    skip_bad: common.SkipBadOption = False,
    pair: Annotated[
        bool,
        typer.Option(
            "--pair",
            help="Train both sides of pictures that hold pairs, one after the other: the runs NAME-A and NAME-B, where "
            "--run names NAME; --max-hours is for each.",
        ),
    ] = False,
    latent: Annotated[
        str | None,
        typer.Option(
            "--latent", help="bernoulli, categorical, ordinal, or none for the plain diffusion model."
        ),
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", min=1, max=65536, help="|z|, the number of bits.")
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option("--max-steps", min=1, max=bounds.MOST_STEPS, help="Optimizer steps of the run."),
    ] = None,
    max_hours: Annotated[
        float | None,
        typer.Option(
            "--max-hours",
            min=0,
            callback=bounds.finite,
            help="End after so many hours, the last checkpoint and validation included.",
        ),
    ] = None,
    batch_size: common.BatchSizeOption = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=bounds.MOST_TRAINING_SEED, help="Seed of everything random."),
    ] = None,
    device: common.DeviceOption = None,
    settings: common.SetOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the resolved settings, parameters, FLOPs, and a few steps' memory and time, and stop.",
        ),
    ] = False,
    list_settings: Annotated[
        bool, typer.Option("--settings", help="List all settings and presets, and stop.")
    ] = False,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Train an autoencoder; the same command again resumes.

    Settings come from the defaults, then the preset, then flags and --set. A run directory that holds settings
    goes on with its own.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.config import list_all_settings, presets

    if list_settings:
        facts, text = list_all_settings(preset or (dataset if dataset in presets() else None))
        talk.result(facts, text)
        return
    flags: dict[str, dict[str, object]] = {
        "data": common.data_flags(data_dir, skip_bad),
        "model": {"latent": latent, "bits": bits},
        "training": {"steps": max_steps, "batch_size": batch_size, "seed": seed},
    }
    from dmzcli.errors import UserError
    from dmzcli.system import processes

    if dry_run and processes.ranks() > 1:
        raise UserError(
            f"--dry-run measures one process, but {processes.ranks()} were started",
            "leave the launcher out, and give the --batch-size of one process",
        )
    how = _How(preset, flags, max_steps, max_hours, download, device, dry_run)
    if not pair:
        talk.result(*_train(talk, dataset, how, settings or [], run, processes.begun()))
        return
    if any(setting.startswith("data.side=") for setting in settings or ()):
        raise UserError(
            "--pair trains both sides, and --set data.side names one of them", "leave one of the two out"
        )
    from dmzcli.runs.pair import SIDES, side_path

    sides, texts, named, begun = {}, [], run, processes.begun()
    for side in SIDES:
        talk.say(f"side {side} of the pairs")
        own = None if named is None else side_path(named, side)
        cut = [*(settings or []), f"data.side={side}"]
        facts, text = _train(talk, dataset, how, cut, own, begun, side)
        begun = time.monotonic()
        sides[side] = facts
        texts.append(text)
        path = Path(facts["run"])
        named = path.with_name(path.name[: -len(side) - 1])
    assert named is not None
    talk.result({"pair": named.name, **sides}, "\n".join(texts))


@dataclass(frozen=True)
class _How:
    """What holds for both sides of a pair."""

    preset: str | None
    flags: dict[str, dict[str, object]]
    max_steps: int | None
    max_hours: float | None
    download: bool
    device: str | None
    dry_run: bool


def _train(
    talk: Console,
    dataset: str | None,
    how: _How,
    settings: list[str],
    run: Path | None,
    begun: float,
    side: str | None = None,
) -> tuple[dict[str, Any], str]:
    """Trains one run, or forecasts it: the facts, and a line for a person."""
    from dmzcli.data import names
    from dmzcli.runs.plan import Plan, plan
    from dmzcli.system import processes

    def planned(run: Path | None, usual: Any = None) -> Plan:
        made = plan(dataset, how.preset, how.flags, settings, run, usual)
        return made if side is None else made.of_side(side)

    wanted, device = planned(run), how.device
    if processes.ranks() > 1:
        processes.join(device)
    data, images = wanted.config.data, None
    measured: dict[str, Any] = {}
    if how.dry_run and data.dataset in names() and data.size is not None and data.channels is not None:
        size, channels = data.size, data.channels  # no need to read the images
    else:
        images = common.load_dataset(talk, data, how.download)
        size, channels = images.images.shape[2:]
        wanted = wanted.with_fit(images.fit)
    from dmzcli.training.usual import chosen_steps, lasting, without_preset

    if wanted.general:
        wanted = without_preset(wanted, planned, run, size, device)
        wanted = wanted if images is None else wanted.with_fit(images.fit)
    config = wanted.config.resolved(size, channels)
    where = wanted.directory(config, run)
    if wanted.general and not chosen_steps(how.max_steps, settings):
        config, measured = lasting(config, where, device, talk, how.max_hours)
    if how.dry_run:
        from dmzcli.training.cost import forecast

        talk.say("measuring a few steps")
        facts = {"run": str(where.path), "config": config.model_dump(mode="json")}
        facts |= forecast(config, device, measured)
        return facts, wanted.dry_run_text(facts)
    from dmzcli.training import train as run_training

    assert images is not None
    talk.say(f"{images.identity}: {len(images.rows('train')):,} training images; writing {where.path}")
    outcome = run_training(config, images, where, device, how.max_hours, talk, begun)
    facts = {"run": str(where.path), "dataset": images.identity, **vars(outcome)}
    end = "finished" if outcome.finished else "stopped"
    loss = "" if outcome.loss is None else f", loss {outcome.loss:.4f}"
    valid = "" if outcome.valid_loss is None else f", valid loss {outcome.valid_loss:.4f}"
    return (
        facts,
        f"{where.path}: {end} at step {outcome.step:,} of {config.training.steps:,}{loss}{valid}",
    )
