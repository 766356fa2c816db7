"""Frozen networks whose features the scores compare images in: torch-fidelity's, and our classifier.

Any extractor of torch-fidelity's registry can be named, and so can one that another package registers there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_fidelity
from torch import Tensor

from dmzcli.data import Dataset
from dmzcli.data.crops import with_channels
from dmzcli.errors import UserError, did_you_mean
from dmzcli.evaluation.classifier import load
from dmzcli.evaluation.classifier_training import check, classifier_for
from dmzcli.evaluation.limits import FEWEST
from dmzcli.evaluation.scores import KERNEL_IMAGES, Moments, subset
from dmzcli.system.files import cache_root, first_not_finite, load_tensors, save_tensors
from dmzcli.system.locks import tidy
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.reading import check_regular

Array = np.ndarray
SHORT = {
    "inception": "inception-v3-compat",
    "dinov2": "dinov2-vit-l-14",
    "clip": "clip-vit-l-14",
}
"""Our names of torch-fidelity's extractors."""
CLASSIFIERS = {"classifier": "train", "classifier-valid": "valid"}
"""Our classifiers, and the split that each learns from."""

RECIPE = 2
"""Part of a cached reference's identity: raise it when what is stored changes."""


@dataclass(frozen=True, eq=False)
class Extractor:
    """A frozen network.

    Attributes:
        name: ``inception``, ``classifier``, ``classifier-valid``, … or a name of torch-fidelity's registry.
        layer: The features' name in it.
        logits: The name of its class logits; ``None`` where it has none.
        sha256: SHA-256 of its weights.
        facts: What else a card should say of it.
        references: Those that :func:`reference_of` has computed or read, by their keys.
    """

    name: str
    layer: str
    logits: str | None
    sha256: str
    run: Callable[[Tensor], dict[str, Tensor]]
    device: torch.device
    facts: Mapping[str, Any] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict, repr=False)

    def metric(self, base: str) -> str:
        """The name of a score in these features: the plain one belongs to Inception alone.

        Example:
            ``fid`` for Inception, ``fid-classifier`` for the classifier.
        """
        return base if self.name == "inception" else f"{base}-{self.name}"

    def __call__(
        self, images: Array, batch_size: int = 64, done: Callable[[int], None] = lambda count: None
    ) -> tuple[Array, Array | None]:
        """Features and logits of images.

        Arguments:
            images: uint8 (N, H, W, C); gray ones are repeated to color.
            batch_size: Images at a time.
            done: Told how many images are finished.

        Returns:
            float32 (N, F), and float32 (N, K) or ``None``.
        """
        features, logits = [], []
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                batch = np.ascontiguousarray(with_channels(images[start : start + batch_size], 3))
                outputs = self.run(torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().to(self.device))
                features.append(outputs[self.layer].float().cpu().numpy())
                if self.logits is not None:
                    logits.append(outputs[self.logits].float().cpu().numpy())
                done(min(start + batch_size, len(images)))
        return np.concatenate(features), np.concatenate(logits) if logits else None


def extractor_names() -> list[str]:
    """What ``--features`` takes."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    return [*CLASSIFIERS, *SHORT, *sorted(set(FEATURE_EXTRACTORS_REGISTRY) - set(SHORT.values()))]


def check_known(name: str) -> None:
    """Raises UserError unless there is an extractor of this name."""
    if name not in extractor_names():
        raise UserError(f"unknown features '{name}'", did_you_mean(name, extractor_names(), "features"))


def create(
    name: str,
    reference: Dataset,
    device: torch.device,
    weights: Path | None = None,
    seed: int = 0,
    talk: Talk | None = None,
) -> Extractor:
    """An extractor by name.

    Arguments:
        name: One of :func:`extractor_names`.
        reference: The dataset whose labels the classifier is trained on.
        device: Where to compute.
        weights: A file of the network's weights; by default downloaded, or trained.
        seed: Seed of the classifier's training.
        talk: Receives progress.

    Raises:
        UserError: The name is unknown, the weights cannot be had, or are no weights of this network.
    """
    check_name(name, reference, weights)
    if name in CLASSIFIERS:
        return _classifier(name, reference, device, weights, seed, talk)
    return _library(name, device, weights)


def check_name(name: str, dataset: Dataset, weights: Path | None = None) -> None:
    """What can be refused before a network is read or trained.

    Raises:
        UserError: The name is unknown, or a classifier cannot be trained on the dataset.
    """
    check_known(name)
    if name in CLASSIFIERS and weights is None:
        check(dataset)
        if not len(dataset.rows(CLASSIFIERS[name])):
            raise UserError(
                f"{dataset.name} has no {CLASSIFIERS[name]} images to train a classifier on",
                "use --features classifier",
            )


def _classifier(
    name: str,
    reference: Dataset,
    device: torch.device,
    weights: Path | None,
    seed: int,
    talk: Talk | None,
) -> Extractor:
    size, channels = reference.images.shape[2:]
    trained = (
        classifier_for(reference, seed, device, talk, CLASSIFIERS[name])
        if weights is None
        else load(weights, size, channels)
    )
    model, gray = trained.model.to(device), channels == 1
    name = next(
        own for own, split in CLASSIFIERS.items() if split == trained.trained_split
    )  # what it has seen

    def run(images: Tensor) -> dict[str, Tensor]:
        x = images.float().div(127.5).sub(1)
        features, logits = model(x[:, :1] if gray else x)
        return {"features": features, "logits": logits}

    facts = {"trained_on": trained.dataset, "trained_split": trained.trained_split, "seed": trained.seed}
    facts |= {"accuracy": trained.accuracy, "accuracy_split": trained.split}
    return Extractor(name, "features", "logits", _hash(model), run, device, facts)


def _library(name: str, device: torch.device, weights: Path | None) -> Extractor:
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY
    from torch_fidelity.utils import create_feature_extractor

    registered = SHORT.get(name, name)
    network = FEATURE_EXTRACTORS_REGISTRY[registered]
    layer = network.get_default_feature_layer_for_metric("fid")
    logits = network.get_default_feature_layer_for_metric("isc")
    layers = [layer] if logits == layer else [layer, logits]
    if weights is not None:
        _check_weights(weights, registered)
    try:
        network = create_feature_extractor(
            registered,
            layers,
            cuda=False,
            feature_extractor_weights_path=None if weights is None else str(weights),
            verbose=False,
        )
    except NotImplementedError as error:
        raise UserError(f"{registered} takes no --weights file", "leave --weights out") from error
    except Exception as error:  # what hubs, sockets and unpicklers raise has no common type
        if weights is not None:
            raise UserError(
                f"{weights} holds no weights of {registered}: {str(error).splitlines()[0]}",
                "leave --weights out to download them",
            ) from error
        if not isinstance(error, OSError | RuntimeError | HTTPException):
            raise
        raise UserError(
            f"the weights of {registered} cannot be downloaded: {error}",
            "give them with --weights FILE, or use --features classifier, which needs none",
        ) from error
    network = network.to(device).eval()

    def run(images: Tensor) -> dict[str, Tensor]:
        return network.convert_features_tuple_to_dict(network(images))

    return Extractor(name, layer, None if logits == layer else logits, _hash(network), run, device)


def _check_weights(weights: Path, registered: str) -> None:
    """Refuses a file that could run code: torch-fidelity would unpickle anything."""
    check_regular(weights)
    if registered.startswith("clip"):  # a TorchScript archive, which torch.jit.load reads and pickle does not
        return
    try:
        torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{weights} is no file of plain weights", "give a state dict as torch.save writes it"
        ) from error


def _hash(module: torch.nn.Module) -> str:
    """SHA-256 over the names, shapes and values of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Reference:
    """A split in an extractor's features.

    Attributes:
        moments: Moments of all its images.
        features: float32, of at most 10,000 of them, one from each equal stretch.
    """

    moments: Moments
    features: Array


def reference_of(
    extractor: Extractor, dataset: Dataset, split: str, batch_size: int = 64, talk: Talk | None = None
) -> Reference:
    """A split's statistics; cached by the contents of images and weights.

    Raises:
        UserError: The split has too few images.
    """
    talk = talk or Silence()
    rows = dataset.rows(split)
    if len(rows) < FEWEST:
        raise UserError(
            f"the split '{split}' of {dataset.name} has {len(rows)} images", f"at least {FEWEST} are needed"
        )
    facts = {
        "extractor": extractor.sha256,
        "layer": extractor.layer,
        "dataset": dataset.identity,
        "split": split,
        "recipe": [RECIPE, KERNEL_IMAGES, torch_fidelity.__version__],
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    if key in extractor.references:
        return extractor.references[key]
    folder = cache_root() / "references"
    file = folder / f"{dataset.name}-{split}-{extractor.name}-{key}.safetensors"
    cached = _cached(file, len(rows))
    if cached is not None:
        tidy(file)
        extractor.references[key] = cached
        return cached
    with talk.task(f"features of {dataset.name} {split}", len(rows)) as advance:
        features, _ = extractor(dataset.images[rows], batch_size, lambda count: advance(count, ""))
    reference = Reference(Moments.of(features), features[subset(len(rows), KERNEL_IMAGES)])
    extractor.references[key] = reference
    arrays = {
        "mean": reference.moments.mean,
        "covariance": reference.moments.covariance,
        "features": reference.features,
    }
    try:
        save_tensors(
            file,
            {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()},
            {"dmz-reference": json.dumps(facts, sort_keys=True)},
        )
    except UserError as error:  # the next evaluation computes it again, and this one goes on
        talk.say(f"the reference is not cached: {error.message}")
    return reference


def _cached(file: Path, count: int) -> Reference | None:
    """A reference that was computed before; ``None`` where there is none, or a damaged one."""
    if not file.exists():
        return None
    try:
        tensors, _ = load_tensors(file)
        mean, covariance, features = (tensors[name].numpy() for name in ("mean", "covariance", "features"))
        width = len(mean) if mean.ndim == 1 else -1
        sound = covariance.shape == (width, width) and features.ndim == 2 and features.shape[1] == width
        finite = first_not_finite(tensors) is None
        return Reference(Moments(count, mean, covariance), features) if sound and finite else None
    except (UserError, KeyError):
        return None
