"""Training of the feature classifier: it ends when images that it does not learn from are not told better any more.

Adam at a constant rate; every :data:`CHECK_EVERY` steps the loss is taken on images set apart. After
:data:`PATIENCE` such checks without a new best, training goes back to the best weights at a fifth of the rate, and the
second time it ends.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmzcli.data import Dataset
from dmzcli.errors import UserError
from dmzcli.evaluation.classifier import RECIPE, Classifier, Trained, load, save
from dmzcli.evaluation.limits import FEWEST
from dmzcli.evaluation.scores import subset
from dmzcli.model.pixels import to_unit
from dmzcli.system.files import cache_root, load_tensors, save_tensors
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold, tidy
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import derive
from dmzcli.system.reading import loads_object
from dmzcli.training.draws import batch_rows

STEPS, BATCH, RATE = 2000, 128, 2e-3
CHECK_EVERY, PATIENCE, CUTS, CUT = 100, 3, 2, 0.2
APART = 2000
"""Images at most whose loss decides."""
KEEP_EVERY = 250
"""Steps after which training is kept, in case it is killed."""


def classifier_file(dataset: Dataset, seed: int, split: str = "train", target: str = "labels") -> Path:
    """Where a dataset's classifier of a split is kept."""
    of = () if target == "labels" else (target,)
    key = derive("classifier file", RECIPE, dataset.identity, seed, split, *of)
    return cache_root() / "classifiers" / f"{'-'.join((dataset.name, *of, split))}-{key:016x}.safetensors"


def classifier_for(
    dataset: Dataset,
    seed: int = 0,
    device: torch.device | None = None,
    talk: Talk | None = None,
    split: str = "train",
    target: str = "labels",
) -> Trained:
    """A dataset's classifier: the cached one, or trained and cached; of its classes, or of its attributes.

    Raises:
        UserError: See :func:`train`.
    """
    talk, file = talk or Silence(), classifier_file(dataset, seed, split, target)
    with ExitStack() as stack:
        try:
            begun = file.with_suffix(".part")
            for place in () if file.exists() and not begun.exists() else (file, begun):
                stack.enter_context(hold(place, patience=math.inf, say=talk.say))
        except UserError as error:  # a cache that cannot be written
            talk.say(f"the classifier is not cached: {error.message}")
        return _cached_or_trained(dataset, seed, device, talk, split, file, target)


def _cached_or_trained(
    dataset: Dataset,
    seed: int,
    device: torch.device | None,
    talk: Talk,
    split: str,
    file: Path,
    target: str,
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
    trained = train(
        dataset, seed, device or torch.device("cpu"), talk, begun=begun, split=split, target=target
    )
    try:
        save(file, trained)
        begun.unlink(missing_ok=True)
    except UserError as error:  # the next evaluation trains it again, and this one goes on
        talk.say(f"the classifier is not cached: {error.message}")
    return trained


@dataclass
class _Progress:
    """Where a training stands.

    Attributes:
        step: Steps done.
        best: The least loss on images set apart.
        kept: The weights that had it.
        waited: Checks since then.
        cuts: How often the rate was cut.
    """

    step: int = 0
    best: float = float("inf")
    kept: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0
    cuts: int = 0

    def check(self, loss: float, model: Classifier, optimizer: torch.optim.Adam) -> bool:
        """Takes a check's loss into account; whether training is over."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.kept = {name: value.clone() for name, value in model.state_dict().items()}
            return False
        self.waited += 1
        if self.waited < PATIENCE:
            return False
        if self.cuts + 1 == CUTS:
            return True
        self.cuts, self.waited = self.cuts + 1, 0
        model.load_state_dict(self.kept)
        optimizer.param_groups[0]["lr"] *= CUT
        return False

    def keep(self, file: Path, model: Classifier, optimizer: torch.optim.Adam) -> None:
        """Writes training as it stands."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.kept.items()}
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
        facts = {name: getattr(self, name) for name in ("step", "best", "waited", "cuts")}
        facts["rate"] = optimizer.param_groups[0]["lr"]
        save_tensors(file, tensors, {"dmz-classifier-part": json.dumps(facts, sort_keys=True)})

    @classmethod
    def taken_up(cls, file: Path, model: Classifier, optimizer: torch.optim.Adam) -> _Progress:
        """What :meth:`keep` wrote."""
        tensors, metadata = load_tensors(file)
        facts = loads_object(metadata["dmz-classifier-part"])
        model.load_state_dict({name: tensors[f"model.{name}"] for name in model.state_dict()})
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, i, key = name.split(".")
                states.setdefault(int(i), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
        optimizer.param_groups[0]["lr"] = facts.pop("rate")
        kept = {name[5:]: value for name, value in tensors.items() if name.startswith("best.")}
        return cls(**facts, kept=kept)


def train(
    dataset: Dataset,
    seed: int,
    device: torch.device,
    talk: Talk | None = None,
    steps: int | None = None,
    begun: Path | None = None,
    split: str = "train",
    target: str = "labels",
) -> Trained:
    """Trains a classifier on a split and measures it on test (on valid, where there is no test).

    Arguments:
        dataset: A dataset with labels.
        seed: Seed of initialization and order.
        device: Where to compute.
        talk: Receives progress.
        steps: Steps of Adam at most (2,000 by default), with batches of 128.
        begun: Where an interrupted training is kept, and taken up again; ends with the weights of an undisturbed one.
        split: Holds the images to learn from; of ``train``, the valid split decides when to end, else a tenth of the
            split itself.
        target: ``labels``, by cross-entropy; or ``attributes``, each a logistic regression on the same features.

    Raises:
        UserError: The dataset has no labels (attributes), or a single class, or its images are smaller than 8×8.
        Interrupted: SIGINT or SIGTERM came; what was done is kept.
    """
    check(dataset, target)
    talk, steps = talk or Silence(), steps or STEPS
    rows, apart = _rows(dataset, split)
    values = _values(dataset, target)
    images = torch.from_numpy(dataset.images[rows]).to(device)
    truth = torch.from_numpy(values[rows]).to(device)
    outputs = len(dataset.label_names if target == "labels" else dataset.attribute_names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("classifier", seed))
        model = Classifier(dataset.images.shape[3], dataset.images.shape[1], outputs).to(device)
    optimizer, progress = torch.optim.Adam(model.parameters(), lr=RATE), _Progress()
    if begun is not None and begun.exists():
        try:
            progress = _Progress.taken_up(begun, model, optimizer)
        except (UserError, KeyError, ValueError, RuntimeError, TypeError) as error:
            raise UserError(f"{begun} is no classifier in training: {error}", "delete it") from error
    talk.say(f"training a classifier on {dataset.identity} {split} for its features, once")
    with collected() as signals, talk.task("classifier", steps, progress.step) as advance:
        while progress.step < steps:
            chosen = torch.from_numpy(batch_rows(seed, progress.step, BATCH, len(rows))).to(device)
            loss = _loss(model(to_unit(images[chosen]))[1], truth[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            progress.step += 1
            if progress.step % 20 == 0:
                advance(progress.step, f"loss {loss.item():.3f}")
            if progress.step % CHECK_EVERY == 0 or progress.step == steps:
                if progress.check(
                    _measured(model, dataset.images, values, apart, device)[0], model, optimizer
                ):
                    break
            if begun is not None and (signals or progress.step % KEEP_EVERY == 0):
                progress.keep(begun, model, optimizer)
            if signals:
                raise Interrupted(signals[0], "the classifier so far is kept; run the same command to go on")
    model.load_state_dict(progress.kept)
    model.eval()
    tested = next((name for name in ("test", "valid") if name != split and len(dataset.rows(name))), None)
    accuracy = (
        None if tested is None else _measured(model, dataset.images, values, dataset.rows(tested), device)[1]
    )
    if accuracy is not None:
        talk.say(f"the classifier took {progress.step:,} steps; accuracy {accuracy:.1%} on {tested}")
    return Trained(model.cpu(), dataset.identity, seed, tested, accuracy, split, progress.step)


def check(dataset: Dataset, target: str = "labels") -> None:
    """Raises UserError unless a classifier can be trained on a dataset."""
    size = dataset.images.shape[1]
    if target == "attributes":
        if dataset.attributes is None or not dataset.attribute_names:
            raise UserError(f"{dataset.name} has no attributes to train a classifier on", "use another one")
    elif dataset.labels is None or len(dataset.label_names) < 2:
        lacks = "no labels" if dataset.labels is None else "a single class, and no second one"
        raise UserError(
            f"{dataset.name} has {lacks} to train a classifier on", "use --features inception, or another one"
        )
    if size < 8:
        raise UserError(f"{dataset.name} has images of {size}×{size}", "the classifier takes 8×8 and more")


def _rows(dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images to learn from, and those whose loss decides when to end."""
    rows, valid = dataset.rows(split), dataset.rows("valid")
    if len(rows) < FEWEST:
        raise UserError(
            f"the split '{split}' of {dataset.name} has {len(rows)} images to train a classifier on",
            f"at least {FEWEST} are needed",
        )
    if split == "train" and len(valid) >= FEWEST:
        return rows, valid[subset(len(valid), APART)]
    shuffled = np.random.RandomState(0).permutation(rows)
    tenth = max(1, len(rows) // 10)
    return np.sort(shuffled[tenth:]), np.sort(shuffled[:tenth])


def _values(dataset: Dataset, target: str) -> np.ndarray:
    """What is learned: classes int64 (N,), or attributes float32 (N, A)."""
    if target == "attributes":
        assert dataset.attributes is not None
        return dataset.attributes.astype(np.float32)
    assert dataset.labels is not None
    return dataset.labels


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    """−log p(truth), its mean over images; of attributes over these, too."""
    if truth.ndim == 1:
        return F.cross_entropy(logits, truth)
    return F.binary_cross_entropy_with_logits(logits, truth)


@torch.no_grad()
def _measured(
    model: Classifier, images: np.ndarray, values: np.ndarray, rows: np.ndarray, device: torch.device
) -> tuple[float, float]:
    """Mean loss and accuracy on some images, in evaluation mode."""
    training = model.training
    model.eval()
    total = right = 0.0
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        logits = model(to_unit(images[part], device))[1]
        truth = torch.from_numpy(values[part]).to(device)
        if truth.ndim == 1:
            total += float(F.cross_entropy(logits, truth, reduction="sum"))
        else:
            total += float(_loss(logits, truth)) * len(part)
        hits = (
            logits.argmax(1) == truth if truth.ndim == 1 else ((logits > 0) == (truth > 0.5)).float().mean(1)
        )
        right += float(hits.sum())
    model.train(training)
    return total / len(rows), right / len(rows)
