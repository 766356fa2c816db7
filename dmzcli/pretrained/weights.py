"""What a reader of foreign weights gives, and the reading of the files themselves."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmzcli.errors import Unchecked, UserError
from dmzcli.system.files import first_not_finite, load_tensors, user_errors
from dmzcli.system.reading import check_regular


@dataclass(frozen=True)
class Weights:
    """A denoiser that others trained, in our terms.

    Attributes:
        layout: ``openai`` or ``diffusers``.
        file: The file that holds the tensors.
        settings: What the weights say of ``data``, ``model`` and ``diffusion``, nested.
        assumed: Keys of ``settings`` that neither weights nor configuration say; the user may know better.
        tensors: Float32, by the names of :class:`dmzcli.model.unet.UNet`.
        left_over: Names of the file's tensors that are no part of the U-Net.
    """

    layout: str
    file: Path
    settings: dict[str, dict[str, Any]]
    assumed: tuple[str, ...]
    tensors: dict[str, Tensor]
    left_over: tuple[str, ...]


def load_state(path: Path) -> dict[str, Tensor]:
    """Reads a state dict: safetensors by its suffix, else ``torch.save``'s format without any code in it.

    Returns:
        Tensors on the CPU by name.

    Raises:
        UserError: The file is missing, truncated, holds code, or is no table of named tensors.
    """
    if path.suffix == ".safetensors":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Unchecked)  # others' files have none of our checksums
            return load_tensors(path)[0]
    with user_errors(path):
        check_regular(path)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if any(word in str(error) for word in ("Unsupported global", "Unsupported class", "GLOBAL")):
                raise UserError(
                    f"{path} holds objects of other classes than tensors: running the code in a file is refused",
                    "save the model's state_dict() alone, as safetensors or with torch.save",
                ) from error
            raise _unreadable(path, error) from error
        except Exception as error:  # a damaged file makes the unpickler fail in any way
            raise _unreadable(path, error) from error
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds a {type(state).__name__}, not a state dict", EXPECTED)
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong or not state:
        inside = ", ".join(map(str, wrong[:3])) or "nothing"
        raise UserError(
            f"{path} is no state dict: besides tensors it holds {inside}",
            "save the model's state_dict() alone, as safetensors or with torch.save",
        )
    for name, value in state.items():
        if value.layout != torch.strided or value.numel() * value.element_size() > _held(value):
            raise UserError(f"{path}: {name} announces more numbers than the file holds", EXPECTED)
    return {str(name): value for name, value in state.items()}


def _held(value: Tensor) -> int:
    """Bytes that a tensor's numbers take in memory, where strides of 0 show one many times."""
    return value.untyped_storage().nbytes()


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises UserError where a weight is no finite number: every code and every image would be wrong in silence."""
    name = first_not_finite(tensors)
    if name is not None:
        raise UserError(
            f"{path}: {name} holds numbers that are not finite", "use another checkpoint of the model"
        )


EXPECTED = "expected is a state dict of improved-diffusion or guided-diffusion, or a folder of diffusers' UNet2DModel"


def _unreadable(path: Path, error: Exception) -> UserError:
    # torch's own text advises to run the code, is a number alone, or names a line of its own.
    reason = "no end of its archive" if "central directory" in str(error) else "no pickled table of tensors"
    return UserError(f"{path} is not a whole file of weights: {reason}", EXPECTED)


def by_head(heads: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rows of three projections (C, …) as our attention has them: q, k, v of the first head, then the next."""
    parts = torch.stack([part.unflatten(0, (heads, -1)) for part in (q, k, v)], dim=1)
    return parts.flatten(0, 2)
