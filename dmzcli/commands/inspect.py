"""``dmz inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common


def inspect(
    bits: Annotated[Path | None, typer.Argument(help="A bit table; by default the newest.")] = None,
    run: common.RunOption = None,
    plain: Annotated[
        Path | None,
        typer.Option("--plain", help="A run without bits on the same images; by default the newest twin."),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--count", "-n", min=2, max=bounds.MOST_IMAGES, help="Images to measure with the model."
        ),
    ] = 256,
    gallery_bits: Annotated[
        int, typer.Option("--bits", min=1, max=4096, help="Bits of the gallery, those of most entropy.")
    ] = 64,
    steps: Annotated[
        int, typer.Option("--steps", min=1, max=bounds.MOST_STEPS, help="T of the gallery.")
    ] = 10,
    points: Annotated[
        int, typer.Option("--points", min=2, max=1000, help="Noise levels of the curves over time.")
    ] = 24,
    seed: common.SeedOption = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", callback=bounds.new_file, help="The page; by default inspect.html in the run."),
    ] = None,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """What each bit means: one HTML page with every picture inside, and the same numbers as JSON.

    Statistics of the bits and of the code, tests against classes and attributes, stability, information over time, and
    a gallery of every bit at 0 and at 1. What needs the run's weights or images is left out where they are not there.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.codes.find import find_bits, owner_of
    from dmzcli.codes.table import BitTable
    from dmzcli.errors import UserError
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    if out is not None and out.suffix.lower() == ".json":
        raise UserError(
            f"--out {out} is the name of the numbers, which lie beside the page",
            f"name the page: --out {out.with_suffix('.html')}",
        )
    path = find_bits(bits, run)
    table = BitTable.read(path)
    found_owner = owner_of(path, table.model)
    keeper = find_run(run) if run is not None else None if found_owner.stale else found_owner.run
    if run is not None and keeper is not None:
        keeper.check_made(path, table.model)
    elif remark := found_owner.remark(path, table.dataset):
        talk.say(remark)
    from dmzcli.analysis.inspector.inspect import Effort, check, inspect_model, inspect_table

    check(table, str(path))
    dataset = None
    missing = f"no run here has the weights that made {path}: name it with --run"
    if keeper is not None:
        common.tell_stopped(talk, keeper)
        data = images_for(keeper, None, settings or (), common.data_flags(data_dir, False))
        try:
            dataset = common.load_dataset(talk, data)
        except UserError as error:
            if settings or data_dir is not None:
                raise
            missing = f"{error.message}; {error.hint}"
    talk.say(f"inspecting {path}: {len(table.bits):,} codes of {table.dim} bits")
    found = inspect_table(table, seed)
    about: dict[str, Any] = {"table": str(path), "dataset": table.dataset, "model": table.model, "seed": seed}
    if keeper is not None and dataset is not None:
        from dmzcli.codes.draw import draw_bits
        from dmzcli.studies.step_sweep import find_plain
        from dmzcli.system.devices import pick

        where = pick(device)
        twin = find_run(plain) if plain is not None else find_plain(keeper)
        if twin is not None and twin.config.model.dim:
            raise UserError(f"{twin.path} has bits of its own", "name a run of dmz train --latent none")
        model = keeper.load_model(where)
        effort = Effort(count, 6, min(steps, model.config.diffusion.timesteps), gallery_bits, points, seed)
        codes = None
        try:
            codes = draw_bits(keeper, table.dim, None, count, seed)
        except UserError as error:
            talk.say(f"no loss with a prior's bits: {error.message}")
        other = None if twin is None else twin.load_model(where)
        drawn = None if codes is None else codes.bits
        found = inspect_model(found, table, model, dataset, effort, drawn, other, talk)
        about |= {
            "run": str(keeper.path),
            "prior": "none" if codes is None else codes.name,
            "plain run": "none" if twin is None else str(twin.path),
            "images": f"{min(count, len(dataset.rows(found.split))):,} of {found.split}",
        }
    else:
        for part in ("stability", "information over time", "gallery"):
            found.absent[part] = missing
    from dmzcli.reports.inspect_page import write_inspection

    file = out or (keeper.path / "inspect.html" if keeper else path.with_name(f"{path.stem}-inspect.html"))
    title = f"The bits of {keeper.path.name if keeper else path.name}"
    page, numbers = write_inspection(found, about, title, file)
    for what, why in found.absent.items():
        talk.say(f"left out: {what}: {why}")
    significant = sum(f.adjusted < 0.05 for f in found.findings)
    facts = {
        "page": str(page),
        "json": str(numbers),
        **about,
        "rows": found.rows,
        "dim": found.dim,
        "constant": found.constant,
        "duplicates": {str(i): j for i, j in found.duplicates.items()},
        "negations": {str(i): j for i, j in found.negations.items()},
        "significant": significant,
        "tests": len(found.findings),
        "absent": found.absent,
    }
    talk.result(
        facts,
        f"{page}: {found.dim} bits, {len(found.constant)} dead, {len(found.duplicates)} duplicates, "
        f"{len(found.negations)} negations; {significant} of {len(found.findings)} tests significant; "
        f"numbers in {numbers}",
    )
