"""``dmz search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common


def search(
    image: Annotated[
        Path | None, typer.Argument(help="A picture; it is fitted and encoded by the run.", metavar="[IMAGE]")
    ] = None,
    row: Annotated[
        int | None,
        typer.Option("--row", min=0, max=bounds.MOST_IMAGES, help="Search for this image of the dataset."),
    ] = None,
    duplicates: Annotated[
        int | None,
        typer.Option(
            "--duplicates", min=0, max=64, help="Groups of images joined by steps of at most so many bits."
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, max=10_000, help="How many neighbors.")] = 20,
    split: Annotated[
        str | None, typer.Option("--split", help="Only among train, valid or test; by default all.")
    ] = None,
    run: common.RunOption = None,
    bits: Annotated[Path | None, typer.Option("--bits", help="A bit table; by default the run's.")] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="faiss or numpy; by default faiss where it is installed.")
    ] = None,
    fit: common.FitOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=bounds.new_file, help="The picture; by default search.png in the run."
        ),
    ] = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """The images whose bits differ in the fewest places from a picture's, or groups of near-duplicates.

    The result is a picture grid, with the distances, and the images' positions in the dataset.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError

    asked = [
        name
        for name, value in zip(("IMAGE", "--row", "--duplicates"), (image, row, duplicates), strict=True)
        if value is not None
    ]
    if len(asked) != 1:
        raise UserError(
            f"{' and '.join(asked) if asked else 'nothing'} to search for",
            "name one of: a picture, --row N, --duplicates BITS",
        )
    from dmzcli.analysis.search import pick_engine
    from dmzcli.codes.find import find_bits, owner_of
    from dmzcli.codes.table import BitTable
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    engine = pick_engine(engine)
    if split is not None:
        from dmzcli.evaluation.limits import check_split

        check_split(split)
    path = find_bits(bits, run)
    table = BitTable.read(path)
    owner = find_run(run) if run is not None else owner_of(path, table.model).run
    if owner is None:
        raise UserError(f"no run here has the weights that made {path}", "name it with --run")
    owner.check_made(path, table.model)
    from dmzcli.analysis import lookup

    dataset = None
    data = images_for(owner, None, settings or (), common.data_flags(data_dir, False))
    try:
        dataset = common.load_dataset(talk, data)
    except UserError as error:
        if settings or data_dir is not None:
            raise
        talk.say(f"no pictures: {error.message}; {error.hint}")
    if dataset is not None and dataset.identity != table.dataset:
        raise UserError(
            f"the dataset is {dataset.identity}, but {path} was made from {table.dataset}",
            "name the same dataset with --data-dir, or encode anew",
        )
    facts: dict[str, Any] = {"bits": str(path), "run": str(owner.path)}
    sheet = None
    if duplicates is not None:
        found = lookup.groups(table, duplicates)
        facts |= {"radius": duplicates, "images": len(table.bits), "in_groups": sum(map(len, found))}
        facts["groups"] = [[int(table.index[row]) for row in part] for part in found]
        if dataset is not None and found:
            sheet = lookup.group_sheet(found, table, dataset)
        shown = [
            {"images": len(part), "the first": ", ".join(str(table.index[row]) for row in part[:8])}
            for part in found[:20]
        ]
        title = f"{len(found):,} groups of images joined by steps of at most {duplicates} bits"
    else:
        if image is not None:
            from dmzcli.system.devices import pick

            query = lookup.query_of_picture(image, owner.load_model(pick(device)), fit or data.fit)
        else:
            assert row is not None
            query = lookup.query_of_row(table, row, dataset)
        near = lookup.neighbors(table, query, count, split, engine)
        shown = [
            {"distance": int(d), **lookup.row_facts(table, int(r))}
            for r, d in zip(near.rows[0], near.distances[0], strict=True)
        ]
        facts |= {"query": query.name, "dim": table.dim, "neighbors": shown}
        if dataset is not None:
            sheet = lookup.neighbor_sheet(query, near, dataset.images[table.index[near.rows[0]]])
        title = f"nearest of {len(table.bits):,} codes of {table.dim} bits to {query.name}"
    if sheet is not None:
        from dmzcli.system.png import write_png

        file = out or owner.path / "search.png"
        write_png(file, sheet)
        facts["picture"] = str(file)
        talk.say(f"picture: {file}")
    from dmzcli.commands.console import table as make_table

    talk.result(facts, make_table(title, shown) if shown else title)
