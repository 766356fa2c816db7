"""``dmz probe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dmzcli.commands import options as common

if TYPE_CHECKING:
    from dmzcli.analysis.probes.protocol import Score


def probe(
    bits: Annotated[Path | None, typer.Argument(help="A bit table; by default the newest.")] = None,
    run: common.RunOption = None,
    heads: Annotated[
        str, typer.Option("--heads", help="Which classifiers, with commas: logistic, knn, mlp.")
    ] = "logistic,knn,mlp",
    representations: Annotated[
        str | None,
        typer.Option(
            "--representations",
            help="Which, with commas, the first being compared with: bits, untrained, pixels, probs, pca, kmeans, pq.",
        ),
    ] = None,
    targets: Annotated[
        str | None, typer.Option("--targets", help="labels, attributes or both; by default what there is.")
    ] = None,
    budgets: Annotated[
        str, typer.Option("--budgets", help="Percentages of the labels that probes see, such as 1,10,100.")
    ] = "100",
    draws: Annotated[
        int, typer.Option("--draws", min=1, max=100, help="Draws of the labels of a budget below 100.")
    ] = 3,
    test_on: Annotated[
        Path | None,
        typer.Option("--test-on", help="Test on the test rows of another table of the same run."),
    ] = None,
    retrieval: Annotated[
        str | None,
        typer.Option(
            "--retrieval",
            help="Also rank by Hamming distance: splits, or cifar10-hashing, the papers' protocol.",
        ),
    ] = None,
    disentanglement: Annotated[
        bool, typer.Option("--disentanglement", help="Also DCI and TAD, where factors are known.")
    ] = False,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", help="ours, or paper: also the authors' pooled five folds of noisy soft codes."
        ),
    ] = "ours",
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    skip_bad: common.SkipBadOption = False,
    baselines: Annotated[
        bool,
        typer.Option("--baselines/--no-baselines", help="Also probe everything but the bits."),
    ] = True,
    prefix: common.PrefixOption = None,
    seed: common.SeedOption = 0,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """What a bit table tells of labels and attributes: fitted on train, chosen on valid, tested once on test.

    Next to it stand the pixels, their principal components and k-means indices, the bits of the same encoder
    untrained, and the probabilities that the bits are rounded from.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.codes.find import find_bits, owner_of
    from dmzcli.codes.table import BitTable
    from dmzcli.data import SPLITS
    from dmzcli.errors import UserError, did_you_mean
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    shares = _shares(budgets)
    if protocol not in ("ours", "paper"):
        raise UserError(
            f"unknown --protocol '{protocol}'", did_you_mean(protocol, ["ours", "paper"], "protocols")
        )
    if test_on is not None and (retrieval is not None or disentanglement or protocol == "paper"):
        raise UserError(
            "--test-on tests probes alone on another table",
            "leave --retrieval, --disentanglement and --protocol out, or name that table in place of this one",
        )
    path = find_bits(bits, run)
    table = BitTable.read(path)
    if prefix is not None:
        table = table.prefix(prefix)
    if run is not None:
        find_run(run).check_made(path, table.model)
    from dmzcli.analysis.disentanglement import factors_of, measured, varied_factors
    from dmzcli.analysis.paper import check_bits, paper_scores
    from dmzcli.analysis.probes.heads import HEADS
    from dmzcli.analysis.probes.linear import Probe
    from dmzcli.analysis.probes.protocol import measure_all
    from dmzcli.analysis.probes.representations import REPRESENTATIONS, Source
    from dmzcli.analysis.probes.table import check_dataset, check_transfer, lacking, represented, write_probes
    from dmzcli.analysis.probes.targets import chosen_targets, elsewhere
    from dmzcli.analysis.retrieval import PROTOCOLS, retrieve
    from dmzcli.commands.probe_tables import (
        disentanglement_table,
        paper_table,
        retrieval_table,
        score_tables,
    )
    from dmzcli.system.devices import pick

    if retrieval is not None and retrieval not in PROTOCOLS:
        raise UserError(
            f"unknown retrieval protocol '{retrieval}'", did_you_mean(retrieval, PROTOCOLS, "protocols")
        )
    chosen_heads = common.listed(heads)
    for name in chosen_heads:
        HEADS.get(name)
    asked = None if representations is None else common.listed(representations)
    for option, names in (
        ("heads", chosen_heads),
        ("representations", asked),
        ("targets", targets and common.listed(targets)),
    ):
        if names is not None and not names:
            raise UserError(f"--{option} is empty", "leave it out for all of them")
    if protocol == "paper":
        check_bits(table.cardinalities)
    rows = {split: table.rows(split) for split in SPLITS}
    wanted = chosen_targets(table, rows, None if targets is None else common.listed(targets))
    if disentanglement:
        varied_factors(factors_of(table), rows["train"])
    other = None
    if test_on is not None:
        there = BitTable.read(test_on)
        there = there if prefix is None else there.prefix(prefix)
        check_transfer(table, there)
        other = Source(there)
    owner = owner_of(path, table.model)
    if remark := owner.remark(path, table.dataset):
        talk.say(remark)
    keeper = find_run(run) if run else owner.run
    if keeper is not None:
        common.tell_stopped(talk, keeper)
    kinds = {name: REPRESENTATIONS.get(name)() for name in asked or list(REPRESENTATIONS.entries)}
    needs_images = (baselines if asked is None else any(k.needs_images for k in kinds.values())) and not other
    dataset = config = None
    if keeper is not None and needs_images:
        config = keeper.config
        given = common.data_flags(data_dir, skip_bad)
        dataset = common.load_dataset(talk, images_for(keeper, None, settings or (), given))
        check_dataset(table, dataset)
    elif keeper is None and needs_images:
        talk.say(f"no run has the weights that made {path}: probing its bits alone")
    source = Source(table, dataset, config, pick(device), seed)
    if asked is None:
        asked = (
            [name for name, kind in kinds.items() if not lacking(kind, source, other)]
            if baselines
            else ["bits"]
        )
    if len(rows["train"]) < table.dim:
        talk.say(
            f"{path} has {len(rows['train']):,} training rows, fewer than its {table.dim} bits: a probe can learn them "
            "by heart, and small differences mean nothing"
        )
    talk.say(f"probing {path}: {len(table.bits):,} codes of {table.dim} bits")
    features = represented(source, asked, other, talk)
    scores: list[Score] = []
    for target in wanted:
        truth = None
        if other is not None:
            target, truth = elsewhere(target, other.table, other.table.rows("test"))
        if target.left_out:
            talk.say(f"left out, being constant in a split: {', '.join(target.left_out)}")
        scores += measure_all(features, target, rows, chosen_heads, shares, draws, seed, talk, truth)
    sizes = {split: len(where) for split, where in rows.items()}
    if other is not None:
        sizes["test"] = len(other.table.rows("test"))
    facts: dict[str, Any] = {"bits": str(path), "dataset": table.dataset, "rows": sizes}
    if other is not None:
        facts |= {"tested_on": str(test_on), "tested_dataset": other.table.dataset}
    linear = [s for s in scores if (s.head, s.target, s.budget) == ("logistic", "labels", 1.0)]
    facts["probes"] = [Probe.of(score).facts() for score in linear]
    facts |= {"seed": seed, "left_out": [name for target in wanted for name in target.left_out]}
    facts["scores"] = [score.facts() for score in scores]
    shown = score_tables(scores, sizes)
    if retrieval is not None:
        found = retrieve(table, retrieval, seed)
        facts["retrieval"] = found.facts()
        shown.append(retrieval_table(found))
    if disentanglement:
        kinds = {name: REPRESENTATIONS.get(name)() for name in asked}
        measures = [measured(kind.title, source.features(kind), table) for kind in kinds.values()]
        facts["disentanglement"] = measures
        shown.append(disentanglement_table(measures))
    if protocol == "paper":
        temperature = 1.0 if keeper is None else keeper.config.model.temperature
        if keeper is None:
            talk.say("no run says the temperature of these codes: taking 1")
        paper = paper_scores(table.probs, wanted, temperature, seed, talk)
        facts["paper"] = [score.facts() for score in paper]
        shown.append(paper_table(paper))
    if keeper is not None and other is None:
        end = "" if prefix is None else f"-prefix-{prefix}"
        try:
            write_probes(keeper.path / "evaluation" / f"probe-{path.stem}{end}.json", table, facts)
        except UserError as error:  # a run that others own is read, too
            talk.say(f"the run does not keep this result: {error.message}")
    from rich.console import Group

    talk.result(facts, Group(*shown))


def _shares(text: str) -> list[float]:
    """Budgets as shares, from percentages.

    Raises:
        UserError: One is no number above 0 and up to 100.
    """
    from dmzcli.errors import UserError

    shares = []
    for part in common.listed(text):
        try:
            share = float(part) / 100
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            raise UserError(
                f"--budgets holds '{part}', which is no percentage above 0 and up to 100",
                "for example --budgets 1,10,100",
            )
        shares.append(share)
    if not shares:
        raise UserError("--budgets is empty", "for example --budgets 1,10,100")
    return shares
