"""The contract of representations: r(x) ∈ R^F of every row of a bit table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from dmzcli.codes.table import BitTable
from dmzcli.config import Config
from dmzcli.data import Dataset

Array = np.ndarray
CPU = torch.device("cpu")


@dataclass(eq=False)
class Source:
    """Where representations come from.

    Attributes:
        table: The bit table; representations have its rows, in its order.
        dataset: The images that were encoded, if they are at hand.
        config: The settings of the model, if they are at hand.
        device: Device of networks.
        seed: Seed of whatever is random.
        made: Representations that were made already, by name.
    """

    table: BitTable
    dataset: Dataset | None = None
    config: Config | None = None
    device: torch.device = CPU
    seed: int = 0
    made: dict[str, Array] = field(default_factory=dict)

    def features(self, kind: Representation) -> Array:
        """A representation, float32 (N, F), made once."""
        if kind.name not in self.made:
            self.made[kind.name] = kind.features(self)
        return self.made[kind.name]

    @cached_property
    def train(self) -> Array:
        """Positions of the training rows; nothing is fitted to others."""
        return self.table.rows("train")

    @cached_property
    def pixels(self) -> Array:
        """The images' pixels in [0, 1], float32 (N, H·W·C)."""
        assert self.dataset is not None
        flat = self.dataset.images.reshape(len(self.dataset.images), -1)[self.table.index]
        return flat.astype(np.float32) / 255

    @cached_property
    def components(self) -> Array:
        """The pixels' principal components on train, float32 (N, min(D, H·W·C, training rows))."""
        from sklearn.decomposition import PCA

        train = self.pixels[self.train]
        count = min(self.table.dim, *train.shape)
        model = PCA(count, svd_solver="auto", random_state=self.seed).fit(train)
        return np.ascontiguousarray(model.transform(self.pixels), np.float32)


class Representation(ABC):
    """A representation.

    Attributes:
        name: What it is asked for by.
        title: What it is called in tables.
        summary: What it is.
        needs_images: Whether it needs the dataset.
        transfers: Whether it means the same in every table of one model, so that a fit on one can be tested on another.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    needs_images: ClassVar[bool] = False
    needs_config: ClassVar[bool] = False
    transfers: ClassVar[bool] = False

    @abstractmethod
    def features(self, source: Source) -> Array:
        """float32 (N, F); what is fitted for it is fitted on the training rows.

        Raises:
            UserError: The table lacks what it needs.
        """
