"""The options of every kind that trains a network, apart from torch, so that a help text costs nothing."""

from __future__ import annotations

import dataclasses

from priors.options import option
from priors.parts.stopping import minutes_option, tolerance_option


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained. A kind lists its own options in a dataclass and puts that behind this one, as in
    ``class Options(TrainingOptions, Architecture)``: dataclasses take the fields of the last base first."""

    epochs: int = option(200, "at most so many passes over the rows", low=1)
    batch: int = option(100, "rows of a training step", low=1)
    rate: float = option(1e-3, "learning rate", low=1e-7)
    decay: float = option(0.01, "weight decay", low=0.0)
    patience: int = option(4, "evaluations without a gain before the rate falls", low=1)
    tolerance: float = tolerance_option()
    minutes: float = minutes_option()
