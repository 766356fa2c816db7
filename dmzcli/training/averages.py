r"""The average of any relative width, made after the training of the two that it kept.

An average of width σ up to step n counts the weights of step m in proportion to m^γ, m ≤ n. Two tracked widths, stored
at steps that grow by a constant ratio, span the profiles of all others nearly: the coefficients are those of least
squares between profiles, in closed form.

T. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2), 2024, arXiv 2312.02696,
section 3.2 and algorithm 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import build
from dmzcli.runs import Run
from dmzcli.system.files import load_tensors, write_json
from dmzcli.system.locks import hold_together
from dmzcli.system.reading import loads_object
from dmzcli.training import checkpoint
from dmzcli.training.ema import gamma
from dmzcli.training.snapshots import LENGTHS, PART
from dmzcli.training.trainer import MOMENT_IMAGES

FARTHEST = 0.1
"""Distance from its profile, in shares of the profile's norm, from which on an average is refused."""


class Reconstruction(NamedTuple):
    """An average that was made of others.

    Attributes:
        parameters: By name, float32.
        step: Up to which it is.
        distance: From the profile that it should have, in shares of that profile's norm.
    """

    parameters: dict[str, Tensor]
    step: int
    distance: float


class Profile(NamedTuple):
    """What an average up to a step counts: the weights of step m ≤ ``step`` in proportion to m^``gamma``."""

    step: int
    gamma: float

    def dot(self, other: Profile) -> float:
        """∫ p q of two profiles, each of which integrates to 1."""
        (n, a), (m, b) = self, other
        logs = math.log(a + 1) + math.log(b + 1) - math.log(a + b + 1) + (a + b + 1) * math.log(min(n, m))
        return math.exp(logs - (a + 1) * math.log(n) - (b + 1) * math.log(m))


def coefficients(profiles: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, float]:
    """How an average is made of others: those that come nearest to its profile.

    Returns:
        Coefficients (K,), and the distance from the wanted profile in shares of its norm.
    """
    gram = np.array([[one.dot(other) for other in profiles] for one in profiles])
    right = np.array([each.dot(wanted) for each in profiles])
    # Scaled to unit norms: late profiles of a large γ are hundreds of times as high as early ones.
    norms = np.sqrt(np.diag(gram))
    scaled = np.linalg.lstsq(gram / np.outer(norms, norms), right / norms, rcond=1e-10)[0]
    values: np.ndarray = scaled / norms
    rest = wanted.dot(wanted) - 2 * values @ right + values @ gram @ values
    return values, math.sqrt(max(rest, 0) / wanted.dot(wanted))


def reconstructed(run: Run, length: float) -> Reconstruction:
    """The average of a relative width up to a run's last checkpoint.

    Arguments:
        run: Trained with ``training.average=power``.
        length: σ, above 0 and below 0.2887.

    Raises:
        UserError: The run kept no snapshots, one is damaged or of another model, or they are too far apart for so
            short an average.
    """
    if not run.state.exists():
        raise UserError(
            f"{run.path} has no checkpoint, whose averages others are made of", "name a run that was trained"
        )
    tensors, metadata = load_tensors(run.state)
    prefix = f"{PART}."
    latest = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
    if not latest:
        raise UserError(
            f"{run.path} kept no averages to make another of",
            "train with --set training.average=power, into another --run",
        )
    step = int(loads_object(metadata[checkpoint.KEY])["step"])
    sources = {step: latest}
    for file in sorted(run.averages.glob("*.safetensors")):
        if int(file.stem) < step:  # a kill leaves later ones than its checkpoint
            sources[int(file.stem)] = load_tensors(file)[0]
            if {name: each.shape for name, each in sources[int(file.stem)].items()} != {
                name: each.shape for name, each in latest.items()
            }:
                raise UserError(
                    f"{file} is of another model than {run.state}", "delete it; others take its place"
                )
    kept = [(at, tracked) for at in sources for tracked in LENGTHS]
    profiles = [Profile(at, gamma(tracked)) for at, tracked in kept]
    values, distance = coefficients(profiles, Profile(step, gamma(length)))
    if distance > FARTHEST:
        raise UserError(
            f"the averages that {run.path} kept come no nearer than {distance:.0%} to one of length {length:g}",
            "choose a --length from 0.03 to 0.25",
        )
    values /= values.sum()
    first = f"{LENGTHS[0]:g}/"
    names = [name.removeprefix(first) for name in latest if name.startswith(first)]
    parameters = {}
    for name in names:
        total = torch.zeros(latest[first + name].shape, dtype=torch.float64)
        for (at, tracked), value in zip(kept, values, strict=True):
            total += value * sources[at][f"{tracked:g}/{name}"].double()
        parameters[name] = total.float()
    return Reconstruction(parameters, step, distance)


def average(run: Run, dataset: Dataset, length: float, out: Run, device: torch.device) -> Reconstruction:
    """Writes the average of a relative width up to a run's last checkpoint as a run of its own.

    Its settings are the run's but for ``training.average_length``; its batch-norm statistics are measured.

    Arguments:
        run: Trained with ``training.average=power``.
        dataset: The run's.
        length: σ.
        out: The run to write; what is there must be an average, too.
        device: Where the statistics are measured.

    Raises:
        UserError: As :func:`reconstructed`; or ``out`` was trained.
    """
    if out.path.exists() and any(out.path.iterdir()) and not out.average_of.exists():
        raise UserError(f"{out.path} holds something else than an average", "name a new folder with --out")
    made = reconstructed(run, length)
    model = build(run.config).to(device).eval()
    model.load_state_dict(made.parameters, strict=False)
    model.remeasure(dataset.images, spread(dataset.rows("train"), MOMENT_IMAGES))
    training = run.config.training.model_copy(update={"average_length": length})
    config = run.config.model_copy(update={"training": training})
    with hold_together(out.path, folder=True):
        facts = {"run": str(run.path), "length": length, "step": made.step, "distance": made.distance}
        write_json(out.average_of, facts)
        out.save_config(config)
        out.save_model(model.state_dict(), made.step, config)
    return made
