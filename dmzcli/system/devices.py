"""Which device to work on."""

from __future__ import annotations

import torch

from dmzcli.errors import UserError


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
