"""The command line: which commands there are. Their bodies import what they need when they run."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dmzcli.commands import (
    average,
    cache,
    compare_priors,
    data,
    demo,
    edit,
    encode,
    evaluate,
    explore,
    fit_prior,
    import_weights,
    info,
    inpaint,
    inspect,
    interpolate,
    likelihood,
    probe,
    reconstruct,
    report,
    sample,
    search,
    study,
    sweep_steps,
    train,
    translate,
    tune_steps,
)
from dmzcli.commands.usage import check_arguments
from dmzcli.version import __version__


class _Commands(TyperGroup):
    """The commands; an argument that none of them can take is refused."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        check_arguments(args)
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="dmz",
    cls=_Commands,
    help="Diffusion autoencoders with binary latents, and priors over their bits.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dmz {__version__}")
        raise typer.Exit


SHARED = ("train", "encode", "sample", "study")
"""The commands that several processes can share."""


@app.callback()
def _main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    from dmzcli.errors import UserError
    from dmzcli.system import processes

    if processes.ranks() > 1 and context.invoked_subcommand not in SHARED:
        raise UserError(
            f"dmz {context.invoked_subcommand} runs in one process, but {processes.ranks()} were started",
            f"start it without torchrun or accelerate; only {', '.join(SHARED)} share their work",
        )


app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
app.command("train")(train.train)
app.command("average")(average.average)
app.command("import-weights")(import_weights.import_weights)
app.command("encode")(encode.encode)
app.command("fit-prior")(fit_prior.fit_prior)
app.command("compare-priors")(compare_priors.compare_priors)
app.command("sample")(sample.sample)
app.command("translate")(translate.translate)
app.command("probe")(probe.probe)
app.command("inspect")(inspect.inspect)
app.command("search")(search.search)
app.command("edit")(edit.edit)
app.command("inpaint")(inpaint.inpaint)
app.command("evaluate")(evaluate.evaluate)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("interpolate")(interpolate.interpolate)
app.command("sweep-steps")(sweep_steps.sweep_steps)
app.command("study")(study.study)
app.command("tune-steps")(tune_steps.tune_steps)
app.command("likelihood")(likelihood.likelihood)
app.command("report")(report.report)
app.command("explore")(explore.explore)
app.command("info")(info.info)
