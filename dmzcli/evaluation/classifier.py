"""A small convolutional classifier whose features compare images where Inception has nothing to say.

It is trained once on a dataset's own labels, from its train split; the same seed on the same machine gives the same
weights, and their hash stands on every card. Its scores are named ``fid-classifier`` and the like: they compare runs
on one dataset, and never with published FIDs.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR as Schedule

from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.model.pixels import to_unit
from dmzcli.system.files import cache_root, load_tensors, save_tensors
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold, tidy
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import derive
from dmzcli.training.draws import batch_rows

FEATURES = 64
STEPS, BATCH, RATE = 2000, 128, 2e-3
KEEP_EVERY = 250
"""Steps after which training is kept, in case it is killed."""
RECIPE = 1
"""Part of a classifier's identity: raise it when architecture or training change."""


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
    """

    model: Classifier
    dataset: str
    seed: int
    split: str | None
    accuracy: float | None


def classifier_file(dataset: Dataset, seed: int) -> Path:
    """Where a dataset's classifier is kept."""
    key = derive("classifier file", RECIPE, dataset.identity, seed)
    return cache_root() / "classifiers" / f"{dataset.name}-{key:016x}.safetensors"


def classifier_for(
    dataset: Dataset, seed: int = 0, device: torch.device | None = None, talk: Talk | None = None
) -> Trained:
    """A dataset's classifier: the cached one, or trained and cached.

    Raises:
        UserError: The dataset has no labels, or a single class, or its images are smaller than 8×8.
    """
    talk, file = talk or Silence(), classifier_file(dataset, seed)
    with ExitStack() as stack:
        try:
            begun = file.with_suffix(".part")
            for place in () if file.exists() and not begun.exists() else (file, begun):
                stack.enter_context(hold(place, patience=math.inf, say=talk.say))
        except UserError as error:  # a cache that cannot be written
            talk.say(f"the classifier is not cached: {error.message}")
        return _cached_or_trained(dataset, seed, device, talk, file)


def _cached_or_trained(
    dataset: Dataset, seed: int, device: torch.device | None, talk: Talk, file: Path
) -> Trained:
    if file.exists():
        try:
            trained = load(file, *dataset.images.shape[2:])
            file.with_suffix(".part").unlink(missing_ok=True)  # of a call that was killed after its last word
            tidy(file)
            return trained
        except UserError:  # damaged: trained again
            talk.say(f"{file} is damaged")
    begun = file.with_suffix(".part")
    trained = train(dataset, seed, device or torch.device("cpu"), talk, begun=begun)
    try:
        save(file, trained)
        begun.unlink(missing_ok=True)
    except UserError as error:  # the next evaluation trains it again, and this one goes on
        talk.say(f"the classifier is not cached: {error.message}")
    return trained


def save(file: Path, trained: Trained) -> None:
    """Writes a classifier as safetensors."""
    first, last = trained.model.convolutions[0], trained.model.classify
    assert isinstance(first, nn.Conv2d)
    facts: dict[str, Any] = {"recipe": RECIPE, "channels": first.in_channels, "classes": last.out_features}
    facts |= {"size": trained.model.size}
    facts |= {name: getattr(trained, name) for name in ("dataset", "seed", "split", "accuracy")}
    save_tensors(file, trained.model.state_dict(), {"dmz-classifier": json.dumps(facts, sort_keys=True)})


def load(file: Path, size: int, channels: int) -> Trained:
    """Reads a classifier for images of a size and so many channels.

    Raises:
        UserError: The file is no classifier of ours, or one for images of another kind.
    """
    tensors, metadata = load_tensors(file)
    try:
        facts: dict[str, Any] = json.loads(metadata["dmz-classifier"])
        if (facts["recipe"], facts["size"], facts["channels"]) != (RECIPE, size, channels):
            raise ValueError("it is for other images")
        model = Classifier(channels, size, facts["classes"])
        model.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{file} is no classifier of dmz for {size}×{size} images of {channels} channels",
            "leave --weights out, and dmz trains one on the dataset's labels",
        ) from error
    return Trained(model.eval(), facts["dataset"], facts["seed"], facts["split"], facts["accuracy"])


def _keep(file: Path, model: Classifier, optimizer: torch.optim.Adam, schedule: Schedule) -> None:
    """Writes training as it stands."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
    facts = {"schedule": schedule.state_dict(), "rate": optimizer.param_groups[0]["lr"]}
    save_tensors(file, tensors, {"dmz-classifier-part": json.dumps(facts, sort_keys=True)})


def _go_on(file: Path, model: Classifier, optimizer: torch.optim.Adam, schedule: Schedule) -> int:
    """Takes training up where it was; the steps that are done."""
    tensors, metadata = load_tensors(file)
    facts = json.loads(metadata["dmz-classifier-part"])
    model.load_state_dict({name: tensors[f"model.{name}"] for name in model.state_dict()})
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, i, key = name.split(".")
            states.setdefault(int(i), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    schedule.load_state_dict(facts["schedule"])
    optimizer.param_groups[0]["lr"] = facts["rate"]  # the schedule's next one follows from it
    return int(schedule.last_epoch)


def train(
    dataset: Dataset,
    seed: int,
    device: torch.device,
    talk: Talk | None = None,
    steps: int | None = None,
    begun: Path | None = None,
) -> Trained:
    """Trains a classifier on the train split and measures it on test (on valid, where there is no test).

    Arguments:
        dataset: A dataset with labels.
        seed: Seed of initialization and order.
        device: Where to compute.
        talk: Receives progress.
        steps: Steps of Adam (2,000 by default), with batches of 128 and a rate that falls to 0 by a cosine.
        begun: Where an interrupted training is kept, and taken up again; ends with the weights of an undisturbed one.

    Raises:
        UserError: The dataset has no labels, or a single class, or its images are smaller than 8×8.
        Interrupted: SIGINT or SIGTERM came; what was done is kept.
    """
    talk, steps = talk or Silence(), steps or STEPS
    size, channels = dataset.images.shape[1], dataset.images.shape[3]
    if dataset.labels is None or len(dataset.label_names) < 2:
        raise UserError(
            f"{dataset.name} has no labels to train a classifier on",
            "use --features inception, or another one",
        )
    if size < 8:
        raise UserError(f"{dataset.name} has images of {size}×{size}", "the classifier takes 8×8 and more")
    rows = dataset.rows("train")
    images = torch.from_numpy(dataset.images[rows]).to(device)
    labels = torch.from_numpy(dataset.labels[rows]).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("classifier", seed))
        model = Classifier(channels, size, len(dataset.label_names)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = Schedule(optimizer, steps)
    done = 0
    if begun is not None and begun.exists():
        try:
            done = _go_on(begun, model, optimizer, schedule)
        except (UserError, KeyError, ValueError, RuntimeError) as error:
            raise UserError(f"{begun} is no classifier in training: {error}", "delete it") from error
    talk.say(f"training a classifier on {dataset.identity} for its features, once")
    with collected() as signals, talk.task("classifier", steps, done) as advance:
        for step in range(done, steps):
            chosen = torch.from_numpy(batch_rows(seed, step, BATCH, len(rows))).to(device)
            loss = F.cross_entropy(model(to_unit(images[chosen]))[1], labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 20 == 19:
                advance(step + 1, f"loss {loss.item():.3f}")
            if begun is not None and (signals or step % KEEP_EVERY == KEEP_EVERY - 1):
                _keep(begun, model, optimizer, schedule)
            if signals:
                raise Interrupted(signals[0], "the classifier so far is kept; run the same command to go on")
    model.eval()
    split = next((name for name in ("test", "valid") if len(dataset.rows(name))), None)
    accuracy = None if split is None else _accuracy(model, dataset, split, device)
    return Trained(model.cpu(), dataset.identity, seed, split, accuracy)


@torch.no_grad()
def _accuracy(model: Classifier, dataset: Dataset, split: str, device: torch.device) -> float:
    assert dataset.labels is not None
    rows = dataset.rows(split)
    right = 0
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        guess = model(to_unit(dataset.images[part], device))[1].argmax(1).cpu().numpy()
        right += int((guess == dataset.labels[part]).sum())
    return right / len(rows)
