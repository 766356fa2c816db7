"""One experiment in memory: data, model, optimiser and averaged weights; its steps and its checkpoints.

A step is a function of (seed, step), of the weights and, where timesteps are drawn by their loss, of the history of
losses: the images, and every random number, follow from these. A run that was killed and resumed therefore ends with
the weights of one that was not.
"""

from __future__ import annotations

import copy
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dmzcli.autoencoder import Autoencoder, pick_bits
from dmzcli.batches import Draw, draw, spread, to_unit
from dmzcli.config import Config, parse
from dmzcli.data import Dataset
from dmzcli.diffusion import Diffusion
from dmzcli.errors import UserError
from dmzcli.feeding import Feed
from dmzcli.files import load_tensors, save_tensors
from dmzcli.randomness import derive
from dmzcli.runs import Run, load_into, save_weights
from dmzcli.timesteps import LossSecondMoment

if TYPE_CHECKING:
    from accelerate import Accelerator

VALID_IMAGES = 1024
Model = TypeVar("Model", bound=nn.Module)


class Average(Generic[Model]):
    """Exponential moving average of a model's weights; buffers (batch-norm statistics) are copied.

    The decay starts low, min(decay, (1 + n) / (10 + n)), so that short runs are no averages of noise.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves towards the weights that ``step`` steps made."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for averaged, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            averaged.copy_(buffer)


def build(config: Config) -> Autoencoder:
    """A model at its initialisation, a function of ``training.seed`` alone; global randomness is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("initialisation", config.training.seed))
        return Autoencoder(config)


def accelerator(device: str | None, precision: str) -> Accelerator:
    """Accelerate's handle on device, precision and processes.

    Arguments:
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``None`` takes the best there is.
        precision: ``no``, ``bf16``, or ``auto``: bf16 where the device has instructions for it.

    Raises:
        UserError: There is no such device.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import patch_environment

    from dmzcli.devices import computes_bf16, pick

    chosen = pick(device)
    if precision == "auto":
        precision = "bf16" if computes_bf16(chosen) else "no"
    if chosen.index is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"--device {chosen} names one device for several processes", "use --device cuda")
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(True)  # else an earlier run's device and precision would be this one's
    one = {"ACCELERATE_TORCH_DEVICE": str(chosen)} if chosen.index is not None else {}
    with patch_environment(**one):  # Accelerate's only way to take one device of several
        return Accelerator(cpu=chosen.type == "cpu", mixed_precision=precision)


class Trainer:
    """One experiment in memory: data, model, optimiser and average.

    Arguments:
        config: Resolved.
        dataset: Its ``train`` and ``valid`` images.
        run: Where checkpoints, metrics and grids go.
        engine: Accelerate's.
    """

    def __init__(self, config: Config, dataset: Dataset, run: Run, engine: Accelerator) -> None:
        self.config, self.run, self.engine, self.dataset = config, run, engine, dataset.identity
        training = config.training
        if training.batch_size % engine.num_processes:
            raise UserError(
                f"training.batch_size {training.batch_size} is not a multiple of {engine.num_processes} processes",
                "choose a batch size that every process gets an equal part of",
            )
        self.diffusion = Diffusion(config.diffusion)
        bare = build(config).to(engine.device)
        self.dim = bare.dim
        self.average = Average(bare, training.ema)
        optimiser = torch.optim.AdamW(
            bare.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
        self.model, self.optimiser = engine.prepare(bare, optimiser)
        self.bare: Autoencoder = engine.unwrap_model(self.model)
        self.feed = Feed(
            dataset.images,
            dataset.rows("train"),
            engine.device,
            training.seed,
            training.batch_size,
            engine.process_index,
            engine.num_processes,
            config.data.feed,
        )
        self.valid_images = dataset.images[spread(dataset.rows("valid"), VALID_IMAGES)]
        self.some_images = dataset.images[spread(dataset.rows("train"), 512)]
        chosen = config.diffusion.timestep_sampling == "loss-second-moment"
        self.timesteps = LossSecondMoment(config.diffusion.timesteps) if chosen else None
        self.step = 0
        self.sums: dict[str, Tensor] = {}  # loss terms since the last logged step
        self.logged = 0

    # Checkpoints -------------------------------------------------------------------------------------

    def _moments(self) -> dict[str, Tensor]:
        """The optimiser's tensors by parameter name."""
        inner = getattr(self.optimiser, "optimizer", self.optimiser)
        return {
            f"optimiser.{name}.{key}": value
            for name, parameter in self.bare.named_parameters()
            for key, value in inner.state.get(parameter, {}).items()
        }

    def save(self) -> None:
        """Writes the checkpoint, then the averaged weights; each is whole or as it was before."""
        if not self.engine.is_main_process:
            return
        tensors = {f"model.{name}": value for name, value in self.bare.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.model.state_dict().items()}
        tensors |= {f"sums.{name}": value for name, value in self.sums.items()}
        if self.timesteps is not None:
            tensors |= {f"timesteps.{name}": value for name, value in self.timesteps.state().items()}
        facts: dict[str, Any] = {"step": self.step, "logged": self.logged}
        facts |= {"experiment": self.config.experiment(), "dataset": self.dataset}
        save_tensors(
            self.run.state, tensors | self._moments(), {"dmz-train-state": json.dumps(facts, sort_keys=True)}
        )
        self.save_average()

    def _check_continues(self, facts: dict[str, Any]) -> None:
        if facts["dataset"] != self.dataset:
            raise UserError(
                f"{self.run.path} was trained on {facts['dataset']}, but the dataset is now {self.dataset}",
                "restore the dataset, or start anew with another --run",
            )
        # Settings that came after the checkpoint was written were at their defaults.
        if parse(facts["experiment"], str(self.run.state)).experiment() != self.config.experiment():
            raise UserError(
                f"{self.run.state} is a checkpoint of other settings", "start anew with another --run"
            )

    def save_average(self) -> None:
        """Writes ``model.safetensors``."""
        save_weights(self.run.weights, self.average.model.state_dict(), self.step, self.config)

    def resume(self) -> bool:
        """Goes back to the run's checkpoint.

        Returns:
            Whether there was one.

        Raises:
            UserError: The checkpoint is damaged, or of another experiment.
        """
        if not self.run.state.exists():
            return False
        tensors, metadata = load_tensors(self.run.state)
        try:
            facts = json.loads(metadata["dmz-train-state"])
            self._check_continues(facts)
            inner = getattr(self.optimiser, "optimizer", self.optimiser)
            names = ("model", "average", "optimiser", "sums", "timesteps")
            parts: dict[str, dict[str, Tensor]] = {name: {} for name in names}
            for name, value in tensors.items():
                part, _, rest = name.partition(".")
                parts[part][rest] = value
            self.bare.load_state_dict(parts["model"])
            self.average.model.load_state_dict(parts["average"])
            for name, parameter in self.bare.named_parameters():
                inner.state[parameter] = {
                    key: parts["optimiser"][f"{name}.{key}"].to(parameter.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
            if self.timesteps is not None:
                self.timesteps.restore(parts["timesteps"])
            self.step, self.logged = int(facts["step"]), int(facts["logged"])
            self.sums = {name: value.to(self.engine.device) for name, value in parts["sums"].items()}
        except (KeyError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{self.run.state} is no checkpoint of this model: {error}", "start anew with another --run"
            ) from error
        return True

    def start_from_import(self) -> bool:
        """Takes the imported weights as step 0 of both the model and its average.

        Returns:
            Whether the run is an import that no training went on with yet.

        Raises:
            UserError: The weights are damaged, of other settings, or not those of step 0.
        """
        if not self.run.untrained:
            return False
        facts = json.loads(load_into(self.bare, self.run.weights).get("dmz", "{}"))
        if facts.get("step") != 0:
            raise UserError(
                f"{self.run.weights} is of step {facts.get('step')}, but {self.run.state} is missing",
                "restore it, or import the weights again into another --run",
            )
        self.average.model.load_state_dict(self.bare.state_dict())
        return True

    # Steps -------------------------------------------------------------------------------------------

    def _rate(self) -> float:
        training = self.config.training
        return training.learning_rate * min(1.0, (self.step + 1) / max(training.warmup, 1))

    def losses(self, model: nn.Module, x0: Tensor, numbers: Draw, gumbel: Tensor | None) -> dict[str, Tensor]:
        """The loss terms of images under given random numbers, each (B,)."""
        x_t = self.diffusion.add_noise(x0, numbers.index, numbers.perturbed)
        output = model(x0, x_t, self.diffusion.model_timesteps(numbers.index), gumbel)
        return self.diffusion.losses(output, x0, x_t, numbers.index, numbers.noise)

    def train_step(self) -> None:
        """One optimiser step; adds its mean loss terms and gradient norm to ``sums``, on the device."""
        training, engine = self.config.training, self.engine
        rank, ranks = engine.process_index, engine.num_processes
        named = ("step", training.seed, self.step)
        whole = draw(
            self.config, self.dim, training.batch_size, engine.device, *named, timesteps=self.timesteps
        )
        numbers = whole.part(rank, ranks)
        x0 = self.feed(self.step, numbers.flip if self.config.data.flip else None)
        torch.manual_seed(derive("dropout", training.seed, self.step, rank))
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self.model.train()
        with engine.autocast():
            terms = self.losses(self.model, x0, numbers, numbers.gumbel)
        if (
            self.timesteps is not None
        ):  # of all processes, in the order of the whole batch: each has the same history
            self.timesteps.update(whole.index, engine.gather(terms["loss"].detach()))
        terms = {name: value * numbers.weight for name, value in terms.items()}
        engine.backward(terms["loss"].mean())
        norm = engine.clip_grad_norm_(self.model.parameters(), training.gradient_clip or math.inf)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.bare, self.step)
        for name, value in {**terms, "gradient_norm": norm}.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach().mean()

    @torch.no_grad()
    def valid_loss(self) -> float | None:
        """The mean loss of the averaged weights on hard bits of validation images, same noise every time."""
        total, count = 0.0, 0
        for start in range(0, len(self.valid_images), 128):
            x0 = to_unit(self.valid_images[start : start + 128], self.engine.device)
            numbers = draw(self.config, self.dim, len(x0), self.engine.device, "valid", start)
            total += self.losses(self.average.model, x0, numbers, None)["loss"].sum().item()
            count += len(x0)
        return total / count if count else None

    def _bits(self, images: np.ndarray) -> np.ndarray:
        """The averaged model's most probable bits of uint8 images, (N, D)."""
        return pick_bits(self.average.model.probabilities(to_unit(images, self.engine.device))).cpu().numpy()

    def pictures(self) -> Path:
        """Writes a grid: validation images, their reconstructions, and images from bits by their marginals."""
        from dmzcli.generation import decode
        from dmzcli.pictures import grid, write_png
        from dmzcli.randomness import stream
        from dmzcli.samplers import create

        count, model = 10, self.average.model
        sampler = create("ancestral", self.config.diffusion, min(20, self.config.diffusion.timesteps))
        with torch.no_grad():
            if self.dim:
                shown = spread(self.valid_images if len(self.valid_images) else self.some_images, count)
                count = len(shown)
                codes, some = (self._bits(images) for images in (shown, self.some_images))
                free = (stream("preview").random((count, self.dim)) < some.mean(0)).astype(np.uint8)
                rows = [shown, decode(model, codes, sampler, range(count), 0)]
                rows.append(decode(model, free, sampler, range(count), 1))
            else:
                rows = [decode(model, None, sampler, range(3 * count), 0)]
        file = self.run.samples / "training" / f"step-{self.step:07d}.png"
        write_png(file, grid(np.concatenate(rows), columns=count))
        return file
