"""A small convolutional classifier whose features compare images where Inception has nothing to say.

It is trained once on a dataset's own labels (see :mod:`dmzcli.evaluation.classifier_training`); the same seed on the
same machine gives the same weights, and their hash stands on every card. Its scores are named ``fid-classifier`` and
the like: they compare runs on one dataset, and never with published FIDs.

Features should not have seen the reference: a network knows its own training images better than any others. There are
two, therefore: ``classifier`` learns from train, for references of test, and ``classifier-valid`` from valid, for
references of train.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from dmzcli.errors import UserError
from dmzcli.system.files import load_tensors, save_tensors

FEATURES = 64
RECIPE = 2
"""Part of a classifier's identity: raise it when architecture or training change."""
READABLE = (1, 2)
"""Recipes of one architecture: their files can be given as weights."""


class Classifier(nn.Module):
    """Stride-2 convolutions down to 4×4 or less, their mean, 64 features, and a linear layer.

    Arguments:
        channels: Channels of the images.
        size: Height and width of the images, 8 or more.
        classes: Number of classes.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.size = size
        widths, layers, current = [32, 64, 128], [], channels
        side = size
        while side > 32:  # a larger image is brought to the same three stages
            widths.insert(0, 32)
            side //= 2
        side = size
        for width in widths:
            stride = 2 if side > 4 else 1
            layers += [nn.Conv2d(current, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.SiLU()]
            current, side = width, (side + stride - 1) // stride
        layers += [nn.Conv2d(current, current, 3, padding=1), nn.BatchNorm2d(current), nn.SiLU()]
        self.convolutions = nn.Sequential(*layers)
        self.embed = nn.Linear(current, FEATURES)
        self.classify = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 64) and logits (N, classes) of images (N, C, H, W) in [−1, 1]."""
        features = self.embed(self.convolutions(x).mean((2, 3)))
        return features, self.classify(F.silu(features))


@dataclass(frozen=True, eq=False)
class Trained:
    """A classifier, and what it was trained on.

    Attributes:
        model: The classifier in evaluation mode, on the CPU.
        dataset: Identity.
        seed: Seed of its training.
        split, accuracy: Where its accuracy was measured, and that; ``None`` without such images.
        trained_split: The split of its training images.
        steps: Steps of its training; 0 where a file does not say.
    """

    model: Classifier
    dataset: str
    seed: int
    split: str | None
    accuracy: float | None
    trained_split: str = "train"
    steps: int = 0


def save(file: Path, trained: Trained) -> None:
    """Writes a classifier as safetensors."""
    first, last = trained.model.convolutions[0], trained.model.classify
    assert isinstance(first, nn.Conv2d)
    facts: dict[str, Any] = {"recipe": RECIPE, "channels": first.in_channels, "classes": last.out_features}
    facts |= {"size": trained.model.size}
    facts |= {name: value for name, value in vars(trained).items() if name != "model"}
    save_tensors(file, trained.model.state_dict(), {"dmz-classifier": json.dumps(facts, sort_keys=True)})


def load(file: Path, size: int, channels: int) -> Trained:
    """Reads a classifier for images of a size and so many channels.

    Raises:
        UserError: The file is no classifier of ours, or one for images of another kind.
    """
    tensors, metadata = load_tensors(file)
    try:
        facts: dict[str, Any] = json.loads(metadata["dmz-classifier"])
        if facts["recipe"] not in READABLE or (facts["size"], facts["channels"]) != (size, channels):
            raise ValueError("it is for other images")
        model = Classifier(channels, size, facts["classes"])
        model.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{file} is no classifier of dmz for {size}×{size} images of {channels} channels",
            "leave --weights out, and dmz trains one on the dataset's labels",
        ) from error
    names = ("dataset", "seed", "split", "accuracy", "trained_split", "steps")
    return Trained(model.eval(), **{name: facts[name] for name in names if name in facts})
