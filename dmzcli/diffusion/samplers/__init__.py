"""Samplers: from noise x_T to an image x_0 in a chosen number of steps, given the bits.

The base class owns the loop; a sampler supplies one :meth:`~Sampler.step`. New ones register by name with
:func:`register`, or by an entry point of the group ``dmz.samplers``.
"""

from dmzcli.diffusion.samplers.base import (
    SAMPLERS,
    Denoiser,
    Past,
    Sampler,
    Step,
    available,
    create,
    register,
    sampler_class,
)

# Importing a module of samplers registers them.
from dmzcli.diffusion.samplers import ancestral, ddim, multistep  # isort: skip  # noqa: F401

__all__ = [
    "SAMPLERS",
    "Denoiser",
    "Past",
    "Sampler",
    "Step",
    "available",
    "create",
    "register",
    "sampler_class",
]
