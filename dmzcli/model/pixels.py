"""Images as arrays and as tensors: uint8 (N, H, W, C) ↔ float32 (N, C, H, W) in [−1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_unit(images: np.ndarray | Tensor, device: torch.device | None = None) -> Tensor:
    """uint8 images (N, H, W, C) as float32 (N, C, H, W) in [−1, 1]."""
    if not isinstance(images, Tensor):
        images = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # mapped images are read-only
    return scaled(images.to(device))


def scaled(images: Tensor, flip: Tensor | None = None) -> Tensor:
    """uint8 images (N, H, W, C) as float32 (N, C, H, W) in [−1, 1]; those are mirrored that ``flip`` (N,) says."""
    if flip is not None:  # whole rows of bytes are copied far faster than values are chosen one by one
        both = torch.cat([images, images.flip(2)]).view(2 * len(images), -1)
        rows = torch.arange(len(images), device=images.device) + len(images) * flip
        images = both.index_select(0, rows).view(images.shape)
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> np.ndarray:
    """Images (N, C, H, W) in [−1, 1] as uint8 (N, H, W, C), rounded."""
    levels = images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()
