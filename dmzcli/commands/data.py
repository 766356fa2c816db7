"""``dmz data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmzcli.commands import options as common

if TYPE_CHECKING:
    from dmzcli.config import DataConfig
    from dmzcli.data import Dataset

app = typer.Typer(
    help="The datasets: which are here, how to get the others, what is in them, and image packs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DatasetArgument = Annotated[
    str,
    typer.Argument(
        help="A registered dataset, a folder or archive of images, or a .parquet, .npz, .npy or .h5 file."
    ),
]


@app.callback()
def _data() -> None:
    pass


@app.command("list")
def list_(
    data_dir: common.DataDirOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Which datasets are present, where, and how to get the others."""
    talk = common.console(quiet, as_json)
    from dmzcli.commands.console import table
    from dmzcli.data import status

    datasets = status(data_dir)
    rows = [
        {
            "dataset": entry["name"],
            "what it is": entry["summary"],
            "images": "" if entry["count"] is None else f"{entry['count']:,}",
            "present": "yes" if entry["present"] else "no",
            "where, or how to get it": entry["where"] or entry["how_to_get"],
        }
        for entry in datasets
    ]
    for entry in datasets:
        if entry["problem"]:
            talk.say(f"{entry['name']}: {entry['problem']}")
    talk.result({"datasets": datasets}, table("datasets; any folder, .zip or .tar of images works too", rows))


@app.command("prepare")
def prepare(
    dataset: DatasetArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="The pack's file, such as pack.h5; by default in the cache.")
    ] = None,
    data_dir: common.DataDirOption = None,
    download: common.DownloadOption = False,
    settings: common.SetOption = None,
    skip_bad: common.SkipBadOption = False,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Write a dataset's image pack, one HDF5 file that every command takes as a dataset; again, it resumes.

    Size, crop and side are settings: --set data.size=64 --set data.fit=d2c. By default those of the preset that is
    named like the dataset.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.data import prepare as prepare_pack
    from dmzcli.errors import UserError

    if out is not None and (out.suffix.lower() not in (".h5", ".hdf5") or out.is_dir()):
        raise UserError(f"--out '{out}' is no name of an image pack", "end it in .h5, such as --out pack.h5")
    data = _settings(dataset, data_dir, settings, skip_bad)
    if out is None:
        images, file, resumed = common.load_dataset(talk, data, download), None, 0
    else:
        with talk.task(f"preparing {dataset}", 1) as advance:
            options = common.dataset_options(data, download)
            done = prepare_pack(data.dataset, out, **options, progress=common.counting(advance), say=talk.say)
        images, file, resumed = done.dataset, out, done.resumed
        for note in images.notes:
            talk.say(note)
    facts = {"pack": None if file is None else str(file), **_facts(images), "resumed_pictures": resumed}
    talk.result(facts, f"{file or 'cached'}: {len(images):,} images, {images.identity}")


@app.command("show")
def show(
    dataset: DatasetArgument,
    out: Annotated[
        Path | None, typer.Option("--out", help="The sheet's file; by default <dataset>-sheet.png here.")
    ] = None,
    data_dir: common.DataDirOption = None,
    download: common.DownloadOption = False,
    settings: common.SetOption = None,
    skip_bad: common.SkipBadOption = False,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Write a labeled contact sheet (PNG), and print how many images each split and class has."""
    talk = common.console(quiet, as_json)
    from dmzcli.commands.console import table
    from dmzcli.data.contact_sheet import counts, sheet
    from dmzcli.data.formats.archives import stem
    from dmzcli.system.png import write_png

    images = common.load_dataset(talk, _settings(dataset, data_dir, settings, skip_bad), download)
    source = Path(dataset)
    file = out or Path(f"{stem(source) if source.exists() else images.name}-sheet.png")
    write_png(file, sheet(images))
    talk.say(f"sheet: {file}")
    rows = counts(images)
    talk.result({"sheet": str(file), **_facts(images), "counts": rows}, table(images.identity, rows))


def _settings(dataset: str, data_dir: Path | None, settings: list[str] | None, skip_bad: bool) -> DataConfig:
    """The data settings that training would use; whether a U-Net takes images of that size is left to training."""
    from dmzcli.config import data_settings
    from dmzcli.runs.plan import locate

    flags = {"dataset": locate(dataset), **common.data_flags(data_dir, skip_bad)}
    return data_settings(dataset, settings or (), flags)


def _facts(images: Dataset) -> dict[str, object]:
    return {
        "dataset": images.identity,
        "images": len(images),
        "splits": {split: len(images.rows(split)) for split in ("train", "valid", "test")},
        "labels": list(images.label_names),
        "attributes": list(images.attribute_names),
        "lossy": images.lossy,
        "notes": list(images.notes),
    }
