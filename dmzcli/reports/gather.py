"""What there is to tell of a run: everything that its folder holds, read for the page on it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

import priors
from dmzcli.analysis.probes.linear import Probe
from dmzcli.analysis.probes.table import SavedProbes, read_probes
from dmzcli.codes.find import tables_of
from dmzcli.codes.table import BitTable
from dmzcli.data import SPLITS, Dataset
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.reports.describe import describe
from dmzcli.reports.html import drawn
from dmzcli.reports.run_page import Page, Pictures, confusion_plot, reconstructions, training_curve
from dmzcli.runs import Run
from dmzcli.runs.find import newest
from dmzcli.system.files import read_json
from dmzcli.system.png import to_pil
from dmzcli.system.reading import UNPACKED_BYTES, read_bytes

FOLDERS = 8
"""Folders of samples that are shown, the newest."""
WIDEST = 1600
"""Pixels of the widest picture; wider ones are reduced."""


def gather(
    run: Run, dataset: Dataset | None = None, model: Autoencoder | None = None, steps: int = 20
) -> Page:
    """Reads what a run holds.

    Arguments:
        run: The run.
        dataset: Its dataset, for the reconstructions; without it there are none.
        model: Its model, in evaluation mode, for the same.
        steps: T of the reconstructions.

    Raises:
        UserError: It is no run, or a file of it is damaged.
    """
    tables = tables_of(run)  # its own, or what dmz encode --out has written elsewhere
    table = BitTable.read(tables[0]) if tables else None
    probes = _probes(run)
    page = Page(
        title=f"dmz: {run.path.resolve().name}",
        about=_about(run, dataset, table),
        curves=_curves(run),
        reconstructions=_reconstructions(run, dataset, model, steps),
        priors=_priors(run),
        priors_note="Held-out bits per code are measured on the valid split; fewer are better.",
        samples=_samples(run),
        scores=_scores(run),
        measures=_measures(run),
        probes=[] if probes is None else [_probe_row(probe) for probe in probes.probes],
        probes_note="" if probes is None else _probes_note(run, probes),
        confusion=[] if probes is None else [_confusion(probes)],
    )
    page.absent.update(_absent(run, page, table))
    return page


def _about(run: Run, dataset: Dataset | None, table: BitTable | None) -> dict[str, Any]:
    facts, config = describe(run.path), run.config
    known = dataset or table
    identity = dataset.identity if dataset is not None else table.dataset if table is not None else None
    about: dict[str, Any] = {"dataset": identity or config.data.dataset, "images": facts["images"]}
    if known is not None:
        about["splits"] = ", ".join(f"{len(known.rows(split)):,} {split}" for split in SPLITS)
    about["latent"] = f"{config.model.latent}, {config.model.dim} bits" if config.model.dim else "none"
    if table is not None and len(table.bits):
        stale = "" if _current(run, table.model) else "; of earlier weights: encode again"
        about["bits"] = f"{len(table.bits):,} codes, {table.bits.mean():.3f} of their bits 1{stale}"
    if "step" in facts:
        about["parameters"] = f"{facts['parameters']:,}"
        stopped = "" if facts["step"] >= facts["steps"] else ", stopped early"
        about["training"] = f"step {facts['step']:,} of {facts['steps']:,}{stopped}"
        about["training"] += f"; {config.training.batch_size} images a step"
    shown = {"loss": "loss", "valid loss": "valid_loss", "images per second": "images_per_second"}
    about |= {name: facts[key] for name, key in shown.items() if key in facts}
    if "model" in facts:
        about["weights (SHA-256)"] = facts["model"]
    return about | {"seed": str(config.training.seed)}


def _current(run: Run, model: object) -> bool:
    return run.weights.exists() and model == run.weights_hash


def _curves(run: Run) -> Pictures:
    rows = run.read_metrics()
    caption = "loss per step; validation on averaged weights and hard bits"
    return [(caption, drawn(training_curve(rows)))] if rows else []


def _reconstructions(run: Run, dataset: Dataset | None, model: Autoencoder | None, steps: int) -> Pictures:
    if dataset is not None and model is not None and model.dim:
        split, sheet = reconstructions(model, dataset, steps)
        caption = (
            f"{split} images above reconstructions from their {model.dim} bits; ancestral, {steps} steps"
        )
        return [(caption, to_pil(sheet))]
    latest = newest((run.samples / "training").glob("step-*.png"))
    return [] if latest is None else [(f"during training, {latest.stem}", _picture(latest))]


def _priors(run: Run) -> list[dict[str, Any]]:
    rows = []
    for file in sorted(run.priors.glob("*/prior.json")):
        prior = priors.load(file.parent)
        report = prior.report
        notes = [] if prior.exact else ["an upper bound"]
        if prior.memorises:
            notes.append("memorizes training codes")
        if not _current(run, prior.metadata.get("model")):
            notes.append("of other weights: fit it again")
        rows.append(
            {
                "prior": file.parent.name,
                "held-out bits per code": "" if report is None else round(report.valid_bits_per_code, 2),
                "if independent": "" if report is None else round(report.independent_bits_per_code, 2),
                "note": "; ".join(notes),
            }
        )
    return sorted(rows, key=lambda row: (row["held-out bits per code"] == "", row["held-out bits per code"]))


def _samples(run: Run) -> Pictures:
    cards = sorted(run.samples.glob("*/samples.json"), key=lambda file: file.stat().st_mtime_ns)
    shown = []
    for file in cards[-FOLDERS:]:
        card, sheet = read_json(file), file.with_name("grid.png")
        if sheet.exists():
            with _damaged(file):
                of = f"{card['prior']} prior" if card.get("prior") != "none" else "no bits"
                how = f"{of}, {card['sampler']}, {card['steps']} steps, seed {card['seed']}"
            stale = "" if _current(run, card.get("model")) else "; of other weights"
            shown.append((f"{how}{stale}", sheet))
    return [(caption, _picture(sheet)) for caption, sheet in shown]


def _picture(file: Path) -> Image.Image:
    try:
        with Image.open(io.BytesIO(read_bytes(file, UNPACKED_BYTES))) as stream:
            image = stream.convert("L" if stream.mode == "L" else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} is no whole picture", "remove it, or make it anew") from error
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    return image


@contextmanager
def _damaged(file: Path) -> Iterator[None]:
    """Says of a card that holds other things than such a card does that it is damaged."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{file} is damaged, or of another version of dmz", "remove it, or make it anew"
        ) from error


def _scores(run: Run) -> list[dict[str, Any]]:
    """The scores of evaluation cards: of folders of samples, and of reconstructions and the rest of the run."""
    rows: list[dict[str, Any]] = []
    for file in [
        *sorted(run.samples.glob("*/evaluation-*.json")),
        *sorted(run.path.glob("evaluation/*.json")),
    ]:
        card = read_json(file)
        if card.get("format") not in ("dmz-evaluation", "dmz-reconstructions"):
            continue
        of = file.parent.name if card["format"] == "dmz-evaluation" else "reconstructions"
        with _damaged(file):
            rows += _score_rows(card, of)
    return rows


def _interval(bounds: Any) -> str:
    """An interval in words; a single image has none."""
    return "–" if bounds is None else "{:.4g} … {:.4g}".format(*bounds)


def _score_rows(card: dict[str, Any], of: str) -> list[dict[str, Any]]:
    reference = card.get("reference", card)
    return [
        {
            # Cards of dmz evaluate --reconstructions, which dmz reconstruct has replaced, do not say from what.
            "of": f"{of} from {score['from']}" if "from" in score else of,
            "metric": score["metric"],
            "value": float(score["value"]),
            "95% interval": _interval(score["interval_95"]),
            "against": f"{reference['n']:,} of {reference['split']}",
        }
        for score in card["scores"]
    ]


def _measures(run: Run) -> Pictures:
    shown = []
    for file in sorted(run.path.glob("evaluation/likelihood-*.json")):
        card = read_json(file)
        with _damaged(file):
            shown.append(
                (f"a bound on {card['bounds']}: {card['bits_per_dim']:.4f} bits per dimension", file)
            )
    shown += [("comparison of priors", file) for file in run.priors.glob("comparison.json")]
    shown += [(f"sweep {file.parent.name}", file) for file in sorted(run.path.glob("sweeps/*/sweep.json"))]
    plots = [(caption, file.with_suffix(".png")) for caption, file in shown]
    return [(caption, _picture(plot)) for caption, plot in plots if plot.exists()]


def _probes(run: Run) -> SavedProbes | None:
    latest = newest(run.path.glob("evaluation/probe-*.json"))
    saved = None if latest is None else read_probes(latest)
    return (
        saved if saved is not None and saved.probes else None
    )  # of attributes alone, there are none of classes


def _probe_row(probe: Probe) -> dict[str, Any]:
    return {
        "representation": probe.name,
        "features": probe.features,
        "test accuracy": round(probe.test_accuracy, 4),
        "valid accuracy": round(probe.valid_accuracy, 4),
    }


def _probes_note(run: Run, saved: SavedProbes) -> str:
    stale = "" if _current(run, saved.model) else " The bits are of other weights than the run's."
    return f"Logistic regression, fitted on train, its strength chosen on valid, reported on test.{stale}"


def _confusion(saved: SavedProbes) -> tuple[str, Image.Image]:
    return "test confusion of the probe on the bits", drawn(
        confusion_plot(saved.probes[0], saved.label_names)
    )


def _absent(run: Run, page: Page, table: BitTable | None) -> dict[str, str]:
    """What could be there, and is not, with the command that makes it."""
    here = f" --run {run.path}"
    if not run.weights.exists():
        return {"weights": f"dmz train{here}"}
    commands = {}
    if run.config.model.dim:
        if table is None:
            commands["bits"] = f"dmz encode{here}"
        elif not page.priors:
            commands["priors"] = f"dmz fit-prior{here}"
        if table is not None and table.labels is not None and not page.probes:
            commands["probe"] = f"dmz probe{here}"
    if not page.samples and (page.priors or not run.config.model.dim):
        commands["samples"] = f"dmz sample{here}"
    if not page.scores:
        commands["scores"] = f"dmz evaluate{here}"
    return commands
