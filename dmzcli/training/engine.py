"""What training computes on, and in: Accelerate's handle on device and processes, and the type of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmzcli.config import Config
from dmzcli.system import precision, processes
from dmzcli.system.precision import Choice

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator(device: str | None, mixed_precision: str) -> Accelerator:
    """Accelerate's handle on device, precision and processes.

    Arguments:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``None`` takes the best there is.
        mixed_precision: ``no`` or ``bf16``, see :func:`settled_precision`.

    Raises:
        UserError: There is no such device, or it names one for several processes.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import patch_environment

    chosen = processes.join(device)
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(True)  # else an earlier run's device and precision would be this one's
    alone = processes.ranks() == 1 and chosen.index is not None
    one = {"ACCELERATE_TORCH_DEVICE": str(chosen)} if alone else {}
    with patch_environment(**one):  # Accelerate's only way to take one device of several
        return Accelerator(cpu=chosen.type == "cpu", mixed_precision=mixed_precision)


def settled_precision(config: Config, device: str | None, before: str | None = None) -> Choice:
    """What ``training.precision`` means on a device, by timing a convolution of the network's first level.

    Arguments:
        config: Resolved settings.
        device: As for :func:`accelerator`; several processes agree on what the main one measures.
        before: What the run has computed in until now, if anything.

    Raises:
        UserError: There is no such device.
    """
    where, model, training = processes.join(device), config.model, config.training
    channels, images = model.width, training.batch_size // processes.ranks()
    precision.check(training.precision)
    choice = precision.Choice("no")
    if processes.main():  # the others would measure while it does
        choice = precision.choose(training.precision, where, channels, config.shape[1], images, before)
    return (
        choice if not processes.largest(choice.precision == "bf16")[0] else choice._replace(precision="bf16")
    )
