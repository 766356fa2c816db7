"""Before a run: which settings, which run directory, how many parameters, how much memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dmzcli.config import (
    Config,
    DataConfig,
    assignments,
    changed_data,
    default,
    given_only,
    merge,
    parse,
    preset,
    presets,
)
from dmzcli.config.experiment import says
from dmzcli.config.mistakes import quoted
from dmzcli.config.sections import OPEN
from dmzcli.data.crops import FITS
from dmzcli.data.formats.archives import stem
from dmzcli.data.locate import has_sides
from dmzcli.errors import UserError
from dmzcli.runs.find import ROOT, same_dataset
from dmzcli.runs.run import Run


@dataclass(frozen=True)
class Plan:
    """Settings, not yet fitted to the dataset's images.

    Attributes:
        config: The settings.
        name: Name of the default run directory.
        base: The settings of the preset alone.
        general: Whether no preset and no run directory had a say.
        ending: What the default run directory's name ends with: the side of a pair.
    """

    config: Config
    name: str
    base: Config
    general: bool = False
    ending: str = ""

    def of_side(self, side: str) -> Plan:
        """The same as one side of a pair: its name says which, and the side is no setting that sets it apart."""
        data = self.base.data.model_copy(update={"side": side})
        return replace(self, base=self.base.model_copy(update={"data": data}), ending=f"-{side}")

    def with_fit(self, fit: str) -> Plan:
        """The same for images that an image pack holds already fitted: their fit, where none was asked for.

        So the run's settings say how the images were cropped, and fit the pictures themselves as well.
        """
        if fit not in FITS or self.config.data.fit != "exact":
            return self

        def fitted(config: Config) -> Config:
            return config.model_copy(update={"data": config.data.model_copy(update={"fit": fit})})

        return replace(self, config=fitted(self.config), base=fitted(self.base))

    def directory(self, config: Config, named: Path | None) -> Run:
        """The run directory: the named one, or ``runs/<name>``, with a digest where settings differ from the preset's.

        Arguments:
            config: The resolved settings.
            named: What the user asked for.

        Raises:
            UserError: The directory holds another experiment.
        """
        if named is None:
            channels, size, _ = config.shape
            usual = self.base.resolved(size, channels)
            suffix = "" if usual.experiment() == config.experiment() else f"-{config.digest()}"
            named = ROOT / f"{self.name}{suffix}{self.ending}"
        run = Run(named)
        pictures = Path(config.data.dataset)
        if pictures.is_dir() and named.resolve().is_relative_to(pictures.resolve()):
            raise UserError(
                f"{named} lies inside the dataset {pictures}: its grids would become pictures of it",
                "name a folder elsewhere with --run, or run dmz from another folder",
            )
        if named.exists() and not named.is_dir():
            raise UserError(f"{named} is a file, not a run directory", "name a folder with --run")
        if (named / "config.json").exists():
            there, here = run.config.experiment(), config.experiment()
            again = f"dmz train --run {named} goes on with its own settings; or name another --run"
            if run.untrained:
                there, here = _decided_by_import(there), _decided_by_import(here)
                again = "import the weights again with that setting, into another --run"
            difference = first_difference(there, here)
            if difference:
                raise UserError(f"{named} holds another experiment: {difference}", again)
        return run

    def dry_run_text(self, facts: Mapping[str, Any]) -> str:
        """What a dry run prints for a person."""
        gigabytes = {name: value / 2**30 for name, value in facts["memory_bytes"].items()}
        memory = ", ".join(f"{name} {value:.3f}" for name, value in gigabytes.items())
        batch, steps = self.config.training.batch_size, facts["steps"]
        if facts["measured"]:
            source = f"measured on steps of {batch} images"
            seconds = facts["seconds_per_1000_steps"]
            how = (
                f"the median of {steps} steps, after warm-up"
                if facts["warm"]
                else "the first step, which is slower,"
            )
            pace = f"{seconds:,.0f} s per 1,000 steps ({how} on {facts['device']})"
        else:
            source = "an estimate by the tensors' shapes"
            pace = f"not measured: {facts['why_not']}"
        return "\n".join(
            [
                json.dumps(facts["config"], indent=2),
                f"run directory: {facts['run']}",
                f"parameters: {facts['parameters']:,}",
                f"FLOPs per image, forward and backward: {facts['flops_per_image']:.3g}",
                f"memory in GiB: {memory}; together {sum(gigabytes.values()):.3f}; {source}",
                f"time: {pace}",
            ]
        )


def _decided_by_import(experiment: Mapping[str, Any]) -> dict[str, Any]:
    return {
        section: {k: v for k, v in values.items() if not says(f"{section}.{k}", OPEN)}
        for section, values in experiment.items()
    }


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """The first setting that differs, in words; ``None`` if all agree."""
    for section in new:
        for key in [*new[section], *(key for key in old[section] if key not in new[section])]:
            there, here = (
                tree[section][key] if key in tree[section] else default(f"{section}.{key}")
                for tree in (old, new)
            )
            if there != here:
                return f"{section}.{key} is {quoted(there)} there, {quoted(here)} here"
    return None


def plan(
    dataset: str | None,
    preset_name: str | None,
    flags: Mapping[str, Mapping[str, Any]],
    settings: Sequence[str],
    run: Path | None = None,
    usual: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Merges defaults, preset, flags and ``--set`` entries.

    The own settings of a run directory that holds some stand in the place of defaults and preset, unless a preset is
    named.

    Arguments:
        dataset: Registered name or path; ``None`` takes the preset's, or digits.
        preset_name: ``None`` takes the preset named like the dataset, if there is one.
        flags: Nested; entries of ``None`` were not given.
        settings: ``key=value`` entries.
        run: The named run directory, if any.
        usual: Nested settings that stand in the place of a preset where there is none.

    Raises:
        UserError: A preset, key or value is wrong.
    """
    own = None if run is None else _own_settings(Run(run), dataset, preset_name)
    if own is not None:
        table, where = own, f"{run}/config.json"
    else:
        if preset_name is None:
            name = dataset or "digits"
            preset_name = name if name in presets() else None
        table = {k: dict(v) for k, v in (usual or {}).items()} if preset_name is None else preset(preset_name)
        where = f"preset {preset_name}" if preset_name else "the defaults"
    dataset = locate(dataset or table.get("data", {}).get("dataset", "digits"))
    if own is None and dataset != table.get("data", {}).get("dataset", dataset):
        # A preset knows the colors of its own images; those of others are theirs.
        table = {**table, "data": {k: v for k, v in table["data"].items() if k != "channels"}}
    source: dict[str, dict[str, Any]] = {"data": {"dataset": dataset}}
    base = parse(merge(table, source), where)
    given = merge(given_only(flags), assignments(settings))

    def said_by(key: str) -> str:
        section, _, name = key.partition(".")
        if name:
            return "flags and --set" if name in given.get(section, {}) else where
        return "flags and --set" if not table else f"{where} with flags and --set"

    config = parse(merge(table, source, given), said_by)
    name = stem(Path(dataset).resolve()) if Path(dataset).is_absolute() else dataset
    if preset_name is not None:
        name = preset_name if preset_name.startswith(name) else f"{name}-{preset_name}"
    return Plan(config, name, base, general=own is None and preset_name is None)


def images_for(
    run: Run, dataset: str | None, settings: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> DataConfig:
    """How a run reads a dataset: the one that it was trained on, or another one's images, made as large as its own.

    To a run of one side of pairs, other pictures are that side as they are, not halves of it; only a dataset that is
    known to hold pairs is cut.

    Arguments:
        run: The run.
        dataset: The dataset; ``None`` for the run's own.
        settings: ``data.key=value`` entries, which win.
        flags: Entries of the ``[data]`` table.

    Raises:
        UserError: A setting is none of the data, or a value does not fit.
    """
    data = run.config.data
    if dataset is not None and not same_dataset(data.dataset, dataset):
        side = data.side if has_sides(dataset) else None
        data = data.model_copy(update={"dataset": dataset, "data_dir": None, "side": side})
    return changed_data(data.model_copy(update=dict(flags or {})), settings)


def locate(dataset: str) -> str:
    """A dataset as configurations name it: a registered name as it is, an existing path in full."""
    from dmzcli.data import names

    path = Path(dataset).expanduser()
    try:
        dataset.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"the name of the dataset {dataset} is not in UTF-8, as a run's settings are",
            "rename it, or give it a link with another name",
        ) from None
    return str(path.absolute()) if path.exists() and dataset not in names() else dataset


def _own_settings(run: Run, dataset: str | None, preset_name: str | None) -> dict[str, dict[str, Any]] | None:
    """The settings that a run directory holds; ``None`` where it holds none, or a preset is compared with them."""
    imported = run.imported.exists()
    if imported and preset_name is not None:
        raise UserError(
            f"{run.path} has its settings from imported weights; --preset {preset_name} cannot replace them",
            "leave --preset out, and change single settings with --set",
        )
    if preset_name is not None or not (imported or run.settings.exists()):
        return None
    if not (dataset or run.config.data.dataset):
        raise UserError(
            f"{run.path} was imported without a dataset", f"name one: dmz train DATASET --run {run.path}"
        )
    return run.config.model_dump()
