"""Which device to work on."""

from __future__ import annotations

import torch

from dmzcli.errors import UserError
from dmzcli.system.precision import check


def pick(name: str | None = None) -> torch.device:
    """The named device, or the best one there is.

    Raises:
        UserError: There is no such device here.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"{device.type} is none of cpu, cuda and mps")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"no device '{name}' here", "use cpu, cuda, cuda:0, … or mps, or leave --device out"
        ) from error
    return device


def computes_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16, and so is faster with it than with float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch tells of the processor's instructions in private functions only; without them, float32 is safe.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def computing_in(precision: str, device: torch.device) -> str:
    """What ``no``, ``bf16`` or ``auto`` (bf16 where the device has instructions for it) means on a device.

    Raises:
        UserError: It is none of these.
    """
    check(precision)
    return precision if precision != "auto" else "bf16" if computes_bf16(device) else "no"
