"""CUDA graphs: an evaluation of few images is recorded and replayed, as its kernels take less time than their launch.

A recording is of fixed addresses and shapes: inputs are copied to where it reads, and its output is copied away. It
computes what the evaluation computes, by the same kernels. Elsewhere than on CUDA nothing is recorded.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

PIXELS = 16 * 32**2
"""Most pixels of a batch that is recorded; 0 switches it off. Chosen without a GPU at hand."""
KEPT = 4
"""Recordings that a network keeps; each holds the memory of its activations."""

Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Runs a function and records it: gives what replays it, and the tensor that its output is in then."""


def cuda_graph(function: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Records a function as a CUDA graph, after it has warmed up on a stream of its own.

    Raises:
        RuntimeError: Something in it cannot be recorded.
    """
    stream, here = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        for _ in range(2):
            function()
    here.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(
        graph, capture_error_mode="thread_local"
    ):  # others may read images into pinned memory
        output = function()
    return graph.replay, output


def wanted(x: Tensor) -> bool:
    """Whether an evaluation at x (B, C, H, W) is worth recording: few pixels, on CUDA, and no gradient is asked for."""
    small = x.shape[0] * x.shape[-1] * x.shape[-2] <= PIXELS
    return small and x.is_cuda and torch.cuda.is_available() and not torch.is_grad_enabled()


@dataclass
class _Recording:
    """One shape: where it reads its inputs, and what was copied there last."""

    inputs: list[Tensor]
    constants: list[Any]
    replay: Callable[[], None]
    output: Tensor
    copied: list[Any] = field(default_factory=list)


class Replay:
    """Records functions of tensors, one per name and shape, and replays them.

    Arguments:
        capture: What records.
    """

    def __init__(self, capture: Capture = cuda_graph) -> None:
        self._capture = capture
        self._kept: OrderedDict[Hashable, _Recording | None] = OrderedDict()

    def __reduce__(self) -> tuple[type[Replay], tuple[()]]:
        return Replay, ()  # a copy of a network has addresses of its own: it records anew

    def __call__(
        self,
        function: Callable[..., Tensor],
        name: Hashable,
        inputs: tuple[Tensor, ...],
        constants: Any = None,
    ) -> Tensor:
        """``function(*inputs, constants)``.

        Where it cannot be recorded it is called, now and from then on, and a warning says why.

        Arguments:
            function: Without side effects, and without randomness.
            name: Tells functions apart, and the addresses of what they read besides.
            inputs: Copied at every call.
            constants: A tree of tensors, such as a named tuple in a dictionary; copied when it is another tensor than
                at the call before, and not where it was changed in place.

        Returns:
            A tensor of the caller's own.
        """
        leaves, tree = tree_flatten(constants)
        shapes = [(t.shape, t.dtype, t.device) if isinstance(t, Tensor) else t for t in (*inputs, *leaves)]
        key = (name, str(tree), torch.is_inference_mode_enabled(), *shapes)
        if key not in self._kept:
            self._kept[key] = self._recorded(function, inputs, leaves, tree)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        recording = self._kept[key]
        if recording is None:
            return function(*inputs, constants)
        for there, given in zip(recording.inputs, inputs, strict=True):
            there.copy_(given)
        if any(a is not b for a, b in zip(recording.copied, leaves, strict=True)):
            for there, given in zip(recording.constants, leaves, strict=True):
                if isinstance(given, Tensor):
                    there.copy_(given)
            recording.copied = leaves
        recording.replay()
        return recording.output.clone()

    def _recorded(
        self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...], leaves: list[Any], tree: Any
    ) -> _Recording | None:
        held = [given.clone() for given in inputs]
        constants = [given.clone() if isinstance(given, Tensor) else given for given in leaves]
        bound = tree_unflatten(constants, tree)
        try:
            with torch.cuda.device_of(inputs[0]):
                replay, output = self._capture(lambda: function(*held, bound))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            warnings.warn(
                f"evaluations are not recorded as a CUDA graph: {reason}", RuntimeWarning, stacklevel=4
            )
            return None
        return _Recording(held, constants, replay, output, leaves)
