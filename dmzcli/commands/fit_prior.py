"""``dmz fit-prior``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import bounds
from dmzcli.commands import options as common


def fit_prior(
    context: typer.Context,
    bits: Annotated[Path | None, typer.Argument(help="A bit table; by default the newest.")] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="Kind of prior; auto takes the best held-out likelihood of the kinds without a network.",
        ),
    ] = "auto",
    run: common.RunOption = None,
    pair: common.PairOption = None,
    direction: common.DirectionOption = "A-to-B",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            callback=bounds.new_folder,
            help="Folder of the prior; by default priors/<kind>[-given-…] in the run.",
        ),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(
            "--given",
            help="labels: fit p(bits | class); or a bit table of the same images: p(bits | its bits).",
        ),
    ] = None,
    prefix: common.PrefixOption = None,
    seed: common.SeedOption = 0,
    settings: common.SetOption = None,
    list_kinds: Annotated[
        bool, typer.Option("--kinds", help="List the kinds and their options, and stop.")
    ] = False,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Fit a prior to the training codes of a bit table, or, with --pair, the map between the sides of a pair.

    The map is a prior of one side's bits, given those of the other side. Options of the kind are given as
    --set name=value; see --kinds.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.codes.fit import check, fit, kinds, listing

    if list_kinds:
        talk.result(kinds(), listing())
        return
    check(kind, settings or ())
    from dmzcli.codes.find import find_bits, owner_of
    from dmzcli.codes.table import BitTable
    from dmzcli.runs.find import find_run

    if pair is None:
        common.refuse(context, ("direction",), "without --pair")
        path = find_bits(bits, run)
    else:
        from dmzcli.codes.pair import tables_of_map
        from dmzcli.runs.pair import find_pair

        common.refuse(context, ("bits", "run", "given"), "with --pair, which has its own runs and tables")
        source, path = tables_of_map(find_pair(pair), direction)
        given, run = str(source), path.parent
    table = BitTable.read(path)
    talk.say(f"fitting to {path}: {len(table.rows('train')):,} training codes of {table.dim} bits")
    owner = owner_of(path, table.model)
    if remark := owner.remark(path, table.dataset):
        talk.say(remark)
    keeper = find_run(run) if run is not None else owner.run
    if keeper is not None:
        common.tell_stopped(talk, keeper)
    fitted = fit(table, path, kind, settings or [], given, seed, out, talk, run, reuse=True, prefix=prefix)
    if fitted.reused:
        talk.say(f"{fitted.folder} was fitted in this way before: taken as it is")
    report = fitted.prior.report.as_dict() if fitted.prior.report else {}
    facts = {"prior": str(fitted.folder), "bits": str(path), "reused": fitted.reused, **report}
    if fitted.compared:
        facts["compared"] = fitted.compared
    held_out = report["valid_bits_per_code"]
    for name, bits_per_code in sorted(fitted.compared.items(), key=lambda item: item[1]):
        talk.say(f"{name}: {bits_per_code:.2f} held-out bits per code")
    talk.result(
        facts,
        f"{fitted.folder}: {fitted.prior.kind}, {held_out:.2f} held-out bits per code of {fitted.prior.dim} "
        f"({report['independent_bits_per_code']:.2f} if independent), fitted in {report['seconds']:.1f} s",
    )
