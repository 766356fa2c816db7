"""What an experiment is: its sections together, what makes two runs one experiment, and how settings are parsed.

A configuration is resolved in one fixed order: the defaults below, then the preset's table, then flags
and ``--set key=value``. The resolved configuration is stored beside the weights and is all that is
needed to build the model again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError, model_validator

from dmzcli.config.mistakes import sentence
from dmzcli.config.sections import (
    FREE,
    YOUNGER,
    DataConfig,
    DiffusionConfig,
    Mark,
    ModelConfig,
    Section,
    TrainingConfig,
)
from dmzcli.errors import UserError, did_you_mean

S = TypeVar("S", bound=Section)
Source = str | Callable[[str], str]


class DataOnly(Section):
    """How images are read, where no model takes part."""

    data: DataConfig = DataConfig()


class Config(Section):
    """The whole experiment; see the sections for the fields."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    training: TrainingConfig = TrainingConfig()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images.

        Raises:
            ValueError: The settings are not resolved.
        """
        if self.data.size is None or self.data.channels is None:
            raise ValueError("the images' shape is not known before Config.resolved")
        return self.data.channels, self.data.size, self.data.size

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Config:
        batch, parts = self.training.batch_size, self.training.accumulate
        if batch % parts:
            raise ValueError(f"training.batch_size {batch} is not a multiple of training.accumulate {parts}")
        return self

    @model_validator(mode="after")
    def _variables_are_bits(self) -> Config:
        model = self.model
        if model.values & (model.values - 1):
            raise ValueError(f"model.values {model.values} is not a power of two")
        if model.dim % model.variable_bits:
            raise ValueError(
                f"model.bits {model.bits} is not a multiple of {model.variable_bits}, the bits of a variable of "
                f"model.values {model.values}"
            )
        return self

    @model_validator(mode="after")
    def _nested_bits_are_there(self) -> Config:
        if self.model.nested and not self.model.dim:
            raise ValueError("model.nested says that bits may be absent, but the model has none")
        return self

    @model_validator(mode="after")
    def _there_is_a_code_to_regularize(self) -> Config:
        for name in ("entropy", "decorrelation"):
            if getattr(self.training, name) and not self.model.dim:
                raise ValueError(f"training.{name} is of the code, and the model has none: leave it out")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Config:
        size, levels = self.data.size, len(self.model.multipliers)
        if size is not None and size % 2 ** (levels - 1):
            raise ValueError(
                f"data.size {size} cannot be halved {levels - 1} times, as the {levels} levels of "
                f"model.multipliers {list(self.model.multipliers)} need"
            )
        if size is not None:
            resolutions = [size >> level for level in range(levels)]
            for field in ("attention", "cross_attention", "time_code"):
                wrong = [r for r in getattr(self.model, field) or () if r not in resolutions]
                if wrong:
                    raise ValueError(
                        f"model.{field} {wrong} is not among the U-Net's resolutions {resolutions}"
                    )
        model = self.model
        resolved = model.cross_attention is not None
        seen = (model.attends and model.cross_attention) or (model.times and model.time_code != ())
        if model.dim and resolved and not (model.condition_middle or seen):
            raise ValueError(
                "the code reaches the U-Net nowhere: model.condition_middle is false, and no resolution is chosen"
            )
        key = "heads" if self.model.head_channels is None else "head_channels"
        divisor = getattr(self.model, key)
        for multiplier in self.model.multipliers:
            if self.model.channels * multiplier % divisor:
                raise ValueError(
                    f"model.{key} {divisor} does not divide the {self.model.channels * multiplier} channels of a level"
                )
        return self

    def resolved(self, size: int, channels: int) -> Config:
        """The configuration for images of this size: nothing is left for later code to choose.

        Raises:
            UserError: The U-Net's levels do not divide the size, or a resolution is not among them.
        """
        tree = self.model_dump()
        tree["data"].update(size=size, channels=channels)
        if self.model.attention is None:
            resolutions = [size >> level for level in range(len(self.model.multipliers))]
            tree["model"]["attention"] = tuple(r for r in resolutions if r <= 32)[-2:]
        if self.model.cross_attention is None:
            tree["model"]["cross_attention"] = tree["model"]["attention"]
        return parse(tree, "the settings for this dataset")

    def experiment(self) -> dict[str, Any]:
        """The fields that make the experiment what it is: two runs with equal ones may continue each other.

        Fields younger than the first runs are left out at their defaults.
        """
        tree = self.model_dump(mode="json")
        for key in known_keys():
            section, name = key.split(".")
            at_default = tree[section][name] == default(key)
            if says(key, FREE) or (says(key, YOUNGER) and at_default):
                tree[section].pop(name)
        return tree

    def digest(self) -> str:
        """Eight hexadecimal digits that name :meth:`experiment`."""
        return hashlib.sha256(json.dumps(self.experiment(), sort_keys=True).encode()).hexdigest()[:8]


def fields() -> dict[str, type[Section]]:
    """The sections by name."""
    return {
        "data": DataConfig,
        "model": ModelConfig,
        "diffusion": DiffusionConfig,
        "training": TrainingConfig,
    }


def default(key: str) -> Any:
    """The default of ``section.name``."""
    section, name = key.split(".")
    return fields()[section].model_fields[name].default


def says(key: str, mark: Mark) -> bool:
    """Whether the field ``section.name`` bears a mark."""
    section, name = key.split(".")
    return mark in fields()[section].model_fields[name].metadata


def known_keys() -> list[str]:
    """Every ``section.name``."""
    return [f"{section}.{name}" for section, cls in fields().items() for name in cls.model_fields]


def parse(tree: Mapping[str, Any], source: Source) -> Config:
    """Validates a nested mapping.

    Arguments:
        tree: ``{"model": {"channels": 64}, …}``; what is left out takes its default.
        source: What the mapping came from, for the error message; or a function that says it of ``section.name``.

    Raises:
        UserError: A key is unknown or a value does not fit.
    """
    return parse_as(Config, tree, source)


def parse_as(kind: type[S], tree: Mapping[str, Any], source: Source) -> S:
    """The same for another set of sections than the whole :class:`Config`."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        where = source(key) if callable(source) else source
        if first["type"] == "extra_forbidden":
            raise UserError(
                f"unknown setting '{key}' in {where}", did_you_mean(key, known_keys(), "known settings")
            ) from error
        message, hint = sentence(first)
        raise UserError(f"{message} (in {where})", hint) from error
