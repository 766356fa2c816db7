"""The names of samplers and spacings without the code behind them, which imports torch: a wrong one is told at once."""

from __future__ import annotations

import sys
from importlib import metadata

from dmzcli.errors import UserError, did_you_mean

SAMPLERS = ("ancestral", "ddim", "dpm++", "dpm++-sde", "unipc")
SPACINGS = ("uniform", "ddim", "leading", "trailing", "quadratic", "leading-quadratic", "log-snr")
TUNED = "tuned"
"""The spacing that is a run's own: timesteps that were searched for, and no function of the process and T."""


def known(noun: str) -> set[str]:
    """The names of a noun, ``sampler`` or ``spacing``: built-in ones, entry points', and those registered so far."""
    names = {
        *(SAMPLERS if noun == "sampler" else SPACINGS),
        *metadata.entry_points(group=f"dmz.{noun}s").names,
    }
    module = sys.modules.get(
        "dmzcli.diffusion.samplers.base" if noun == "sampler" else "dmzcli.diffusion.spacings"
    )
    own = {TUNED} if noun == "spacing" else set()
    return names | own | set(getattr(module, f"{noun.upper()}S").entries if module else ())


def check(noun: str, name: str) -> None:
    """Raises UserError unless there is a ``noun`` of this name."""
    names = known(noun)
    if name not in names:
        raise UserError(f"unknown {noun} '{name}'", did_you_mean(name, names, f"{noun}s"))
