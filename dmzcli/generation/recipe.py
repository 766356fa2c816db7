"""A recipe: how images are sampled, whatever the bits and the noise are. Importing it imports no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from dmzcli.diffusion.names import TUNED
from dmzcli.diffusion.thresholds import KINDS, PERCENTILE
from dmzcli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

    from dmzcli.config import Config, DiffusionConfig
    from dmzcli.diffusion.samplers import Sampler
    from dmzcli.generation.guidance import Guidance
    from dmzcli.runs import Run


@dataclass(frozen=True)
class Recipe:
    """How images are sampled; the fields are named as the commands' options are.

    Attributes:
        sampler: Name of a sampler.
        steps: T, the number of network evaluations.
        spacing: Name of a spacing of the timesteps; ``None`` for the sampler's usual one.
        eta: Noise of a step, for samplers that let one choose.
        threshold: Bound of each estimate of the image.
        percentile: Percentile of the dynamic threshold.
        precision: ``no`` (float32) or ``bf16`` for the network's evaluations; ``auto`` until device and network are
            known.
        timesteps: The T timesteps themselves, ascending, where the spacing is ``tuned``; by default those of the run,
            see :meth:`of`.
        guidance: w of :mod:`~dmzcli.generation.guidance`; 1 is none.
        guidance_interval: Noise levels σ / α at which it acts, as ``from,to``; ``None`` for all.
        tuned_by: The criterion by which a run's own timesteps were found. Equal timesteps make equal images, whatever
            found them.
    """

    sampler: str = "ancestral"
    steps: int = 20
    spacing: str | None = None
    eta: float = 0.0
    threshold: str = "clip"
    percentile: float = PERCENTILE
    precision: str = "no"
    timesteps: tuple[int, ...] | None = None
    guidance: float = 1.0
    guidance_interval: str | None = None
    tuned_by: str | None = field(default=None, compare=False)

    def check(self) -> None:
        """What can be told of a recipe without a model, and without importing torch.

        Raises:
            UserError: A name is unknown, or a number is none that any sampler takes.
        """
        from dmzcli.config.sections import Precision
        from dmzcli.diffusion import names
        from dmzcli.diffusion.thresholds import bounded

        names.check("sampler", self.sampler)
        if self.spacing is not None:
            names.check("spacing", self.spacing)
        bounded(self.threshold, self.percentile)
        known = get_args(Precision)
        if self.precision not in known:
            raise UserError(f"unknown precision '{self.precision}'", did_you_mean(self.precision, known))
        if not 0 <= self.eta < math.inf:
            raise UserError(
                f"--eta {self.eta} is not a number from 0 up",
                "0 is deterministic, 1 adds the DDPM posterior's noise",
            )
        if not math.isfinite(self.guidance):
            raise UserError(f"--guidance {self.guidance} is not finite", "1 is none, 2 is strong")
        self._interval()

    def _interval(self) -> tuple[float, float]:
        """The noise levels at which guidance acts.

        Raises:
            UserError: They are none, or there is no guidance.
        """
        if self.guidance_interval is None:
            return 0.0, math.inf
        if self.guidance == 1:
            raise UserError("--guidance-interval means nothing without --guidance", "leave it out")
        try:
            low, high = (float(part) for part in self.guidance_interval.split(","))
        except ValueError:
            low, high = math.nan, math.nan
        if not 0 <= low < high:
            raise UserError(
                f"--guidance-interval {self.guidance_interval} is no two noise levels, the lower first",
                "noise over signal, such as --guidance-interval 0.3,5; inf is the highest",
            )
        return low, high

    def guided(self, config: Config) -> Guidance | None:
        """The guidance of a model, or ``None`` for none.

        Raises:
            UserError: The model cannot be guided.
        """
        from dmzcli.generation.guidance import Guidance, check_guided

        if self.guidance == 1:
            return None
        check_guided(config)
        return Guidance(self.guidance, self._interval())

    def on(self, device: torch.device, config: Config) -> Recipe:
        """The recipe whose precision is what ``auto`` means on a device: by timing a convolution of the network's.

        Arguments:
            device: Where images are made.
            config: The model's resolved settings.

        Raises:
            UserError: The precision or the sampler is unknown.
        """
        from dmzcli.diffusion.samplers import sampler_class
        from dmzcli.generation.decode import usual_count
        from dmzcli.system.precision import check, choose

        sampler_class(self.sampler)
        check(self.precision)
        if self.precision != "auto":
            return self
        _, size, _ = config.shape
        count = usual_count(size, device)
        return replace(
            self, precision=choose("auto", device, config.model.width, size, count, gradients=False).precision
        )

    def of(self, run: Run) -> Recipe:
        """The recipe with a run's own timesteps, if its spacing is ``tuned``.

        Raises:
            UserError: The run's timesteps were not tuned for this sampler and T, or for other weights.
        """
        from dmzcli.generation.tuned import entry_of

        if self.spacing != TUNED or self.timesteps is not None:
            return self
        entry = entry_of(run, self)
        return replace(self, timesteps=tuple(entry["timesteps"]), tuned_by=entry["by"])

    def resolved(self, diffusion: DiffusionConfig) -> Recipe:
        """The recipe with the spacing that it has for a model's diffusion."""
        from dmzcli.diffusion.samplers import sampler_class

        if self.timesteps is not None:
            return replace(self, spacing=TUNED)
        return replace(self, spacing=self.spacing or sampler_class(self.sampler).usual_spacing(diffusion))

    def create(self, diffusion: DiffusionConfig) -> Sampler:
        """The sampler for a model's diffusion.

        Raises:
            UserError: A name is unknown, or a number does not fit.
        """
        from dmzcli.diffusion.samplers import create

        spacing = self.spacing if self.timesteps is None else self.timesteps
        return create(self.sampler, diffusion, self.steps, spacing, self.eta, self.threshold, self.percentile)

    def facts(self) -> dict[str, Any]:
        """As JSON; with the sampler's law, where that has changed since the first, tuned timesteps, and guidance."""
        from dmzcli.diffusion.samplers import sampler_class

        law = sampler_class(self.sampler).law
        facts = asdict(self) | ({} if law == 1 else {"law": law})
        del facts["timesteps"], facts["tuned_by"]
        for name in ("guidance", "guidance_interval"):
            if facts[name] == getattr(Recipe, name):
                del facts[name]
        if self.timesteps is not None:
            facts["timesteps"] = list(self.timesteps)
        if self.tuned_by is not None:
            facts["tuned_by"] = self.tuned_by
        return facts


def choices() -> dict[str, dict[str, str]]:
    """The names that a recipe can hold, with a line about each: of samplers, spacings and thresholds."""
    from dmzcli.diffusion.samplers import SAMPLERS
    from dmzcli.diffusion.spacings import SPACINGS

    own = {TUNED: "searched for by dmz tune-steps, for one run, sampler and T"}
    spacings = SPACINGS.summaries() | own
    return {"samplers": SAMPLERS.summaries(), "spacings": spacings, "thresholds": dict(KINDS)}


def listing() -> str:
    """The choices for a person."""
    lines = []
    for group, entries in choices().items():
        lines += [f"{group}:", *(f"    {name}: {summary}" for name, summary in entries.items())]
    return "\n".join(lines)
