"""Everything that there is to say of a bit table and, where its model and images are at hand, of its bits' meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dmzcli.analysis.inspector import bits as per_bit
from dmzcli.analysis.inspector.bits import Factor, Finding
from dmzcli.analysis.inspector.code import Code, code_statistics
from dmzcli.analysis.inspector.gallery import Exhibit, attention_maps, gallery
from dmzcli.analysis.inspector.information import Curves, curves
from dmzcli.analysis.inspector.stability import Stability, stability
from dmzcli.codes.encode import bits_of
from dmzcli.codes.table import BitTable
from dmzcli.data import SPLITS, Dataset
from dmzcli.data.dataset import spread
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import stream

Array = np.ndarray


@dataclass(frozen=True)
class Effort:
    """How much is computed.

    Attributes:
        images: Images of stability and of information over time.
        shown: Images of the gallery.
        steps: T of the gallery.
        bits: Bits of the gallery, and bits that are left out one at a time, at most: those of most entropy.
        points: Timesteps of the curves.
        seed: Seed of everything random.
    """

    images: int = 256
    shown: int = 6
    steps: int = 10
    bits: int = 64
    points: int = 24
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found; what is ``None`` or empty is named in ``absent`` with the reason.

    Attributes:
        rows, dim: N and D.
        frequency: Of each bit, float64 (D,).
        duplicates, negations: Bits that repeat or negate an earlier one.
        constant: Bits that never change.
        factors: What the bits were tested against.
        findings: All tests.
        code: Statistics of the code.
        split: The split of the images that the rest was measured on.
        stability, curves, exhibits, attention: See the modules of these names.
        absent: What is left out, and why.
    """

    rows: int
    dim: int
    frequency: Array
    duplicates: dict[int, int]
    negations: dict[int, int]
    constant: list[int]
    factors: list[Factor]
    findings: list[Finding]
    code: Code
    split: str = ""
    stability: Stability | None = None
    curves: Curves | None = None
    exhibits: list[Exhibit] = field(default_factory=list)
    attention: dict[str, Array] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """As JSON, without pictures."""
        entropy = per_bit.entropy(self.frequency)
        nats = {} if self.curves is None else dict(zip(self.curves.bits, self.curves.share, strict=True))
        effects = {exhibit.bit: exhibit.effect for exhibit in self.exhibits}
        each = [
            {
                "bit": bit,
                "frequency": float(self.frequency[bit]),
                "entropy_bits": float(entropy[bit]),
                "constant": bit in self.constant,
                "duplicate_of": self.duplicates.get(bit),
                "negation_of": self.negations.get(bit),
                "effect_gray_levels": effects.get(bit),
                "nats": float(nats[bit][-1]) if bit in nats else None,
            }
            for bit in range(self.dim)
        ]
        return {
            "rows": self.rows,
            "dim": self.dim,
            "bits": each,
            "tests": {
                "level": per_bit.LEVEL,
                "correction": "Holm",
                "family": len(self.findings),
                "findings": [vars(finding) for finding in self.findings],
            },
            "code": self.code.facts(),
            "split": self.split,
            "stability": None if self.stability is None else self.stability.facts(),
            "information": None if self.curves is None else self.curves.facts(),
            "absent": self.absent,
        }


def check(table: BitTable, name: str) -> None:
    """Raises UserError where a table has fewer rows than bits, of which nothing can be said."""
    if len(table.bits) < max(table.dim, 2):
        raise UserError(
            f"{name} has {len(table.bits)} rows of {table.dim} bits: fewer rows than bits say nothing of them",
            "encode more images, or inspect the table of a whole dataset",
        )


def inspect_table(table: BitTable, seed: int = 0) -> Inspection:
    """What the table alone says."""
    duplicates, negations, constant = per_bit.equals(table.bits)
    known = per_bit.factors(table)
    absent = {}
    if table.labels is None:
        absent["classes"] = "the table has no labels: encode a labeled dataset"
    if table.attributes is None:
        absent["attributes"] = "the table has no attributes: its dataset knows none"
    held_out = np.concatenate([table.rows("valid"), table.rows("test")])
    code = code_statistics(table.bits, table.rows("train"), held_out, table.labels, table.label_names, seed)
    if not code.total_correlation:
        absent["total correlation"] = "fewer than 20 codes of train, or of valid and test: encode more images"
    return Inspection(
        rows=len(table.bits),
        dim=table.dim,
        frequency=table.bits.mean(0, dtype=np.float64),
        duplicates=duplicates,
        negations=negations,
        constant=constant,
        factors=known,
        findings=per_bit.dependence(table.bits, known, seed),
        code=code,
        absent=absent,
    )


def inspect_model(
    found: Inspection,
    table: BitTable,
    model: Autoencoder,
    dataset: Dataset,
    effort: Effort = Effort(),
    prior_bits: Array | None = None,
    plain: Autoencoder | None = None,
    talk: Talk | None = None,
) -> Inspection:
    """Adds what the model and its images say.

    Arguments:
        found: Of :func:`inspect_table`.
        table: The table.
        model: The one that made it, in evaluation mode.
        dataset: The one that was encoded.
        effort: How much is computed.
        prior_bits: Draws of a prior, at least as many as images, uint8 (N, D); ``None`` where there is none.
        plain: A model without bits of the same images; ``None`` where there is none.
        talk: Receives progress.

    Raises:
        UserError: The dataset is another one, or its images do not fit the model.
    """
    talk = talk or Silence()
    if dataset.identity != table.dataset:
        raise UserError(
            f"the dataset is {dataset.identity}, but the table was made from {table.dataset}",
            "name the same dataset with --data-dir, or encode anew",
        )
    model.check_images(dataset.images, "inspect the images that the run was trained on")
    split = next(name for name in reversed(SPLITS) if len(dataset.rows(name)))
    rows = spread(dataset.rows(split), effort.images)
    rows = stream("inspect", effort.seed).permutation(rows)  # datasets are often sorted by class
    images = np.asarray(dataset.images[rows])
    entropy = per_bit.entropy(found.frequency)
    live = [int(bit) for bit in np.argsort(-entropy, kind="stable") if int(bit) not in found.constant]
    which = sorted(live[: effort.bits])
    absent = dict(found.absent)
    if len(which) < len(live):
        absent["gallery of all bits"] = (
            f"it shows the {len(which)} bits of most entropy: choose --bits {len(live)}"
        )
    if prior_bits is None:
        absent["loss with a prior's bits"] = "the run has no prior: fit one with dmz fit-prior"
    if plain is None:
        absent["I(x_t; z)"] = (
            "it needs a model without bits on the same images, dmz train --latent none, named by --plain; "
            "without one there is the upper bound alone"
        )
    absent["loss without bits in the same network"] = "this model was never trained without its bits"
    with talk.task("information over time", len(images)) as advance:
        measured = curves(
            model,
            images,
            None if prior_bits is None else prior_bits[: len(images)],
            plain,
            effort.points,
            which,
            seed=effort.seed,
            done=lambda done: advance(done, ""),
        )
    codes = bits_of(model, images[: effort.shown])
    with talk.task("gallery", len(which)) as advance:
        exhibits = gallery(
            model, codes, which, effort.steps, effort.seed, done=lambda done: advance(done, "")
        )
    attention = attention_maps(model, codes, effort.steps, effort.seed)
    if not attention:
        absent["attention maps"] = (
            "the model has one token for all bits: train with --set model.tokens=per-bit"
        )
    changes = {
        "split": split,
        "stability": stability(model, images, effort.seed),
        "curves": measured,
        "exhibits": exhibits,
        "attention": attention,
        "absent": absent,
    }
    return Inspection(**{**vars(found), **changes})
