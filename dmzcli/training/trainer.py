"""One experiment in memory: data, model, optimizer and averaged weights; its steps and its checkpoints.

A step is a function of (seed, step), of the weights and, where timesteps are drawn by their loss, of the history of
losses: the images, and every random number, follow from these. A run that was killed and resumed therefore ends with
the weights of one that was not. Several processes, or several parts, make the step of one, up to rounding: they share
its batch and its numbers, and the batch norm sees all of it. Dropout alone draws other masks there.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dmzcli.config import Config
from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.diffusion import timesteps
from dmzcli.diffusion.process import Diffusion
from dmzcli.errors import UserError
from dmzcli.model import regularizers
from dmzcli.model.autoencoder import Autoencoder, build
from dmzcli.model.pixels import to_unit
from dmzcli.model.temperature import temperature
from dmzcli.runs import Run
from dmzcli.runs.run import load_into
from dmzcli.system import processes
from dmzcli.system.files import load_tensors, read_json
from dmzcli.system.png import write_png
from dmzcli.system.randomness import derive
from dmzcli.system.reading import loads_object
from dmzcli.training import checkpoint, optimizers, snapshots
from dmzcli.training.checkpoint import Part, Sums, Weights
from dmzcli.training.draws import Draw, draw
from dmzcli.training.ema import Average, law
from dmzcli.training.feed import Feed
from dmzcli.training.metrics import training_pictures
from dmzcli.training.preview import preview
from dmzcli.training.snapshots import Snapshots
from dmzcli.training.uncertainty import Uncertainty

if TYPE_CHECKING:
    from accelerate import Accelerator

VALID_IMAGES = 1024
"""Validation images whose loss is measured, and training images whose bits' marginals the pictures are drawn from."""
MOMENT_IMAGES = 4096
"""Training images that batch-norm moments are measured on; they are read when they are, a batch at a time."""


class Trainer:
    """One experiment in memory: data, model, optimizer and average.

    Arguments:
        config: Resolved.
        dataset: The dataset; ``train`` is learned from, ``valid`` is measured.
        run: Where checkpoints, metrics and grids go.
        engine: Accelerate's.
    """

    def __init__(self, config: Config, dataset: Dataset, run: Run, engine: Accelerator) -> None:
        self.config, self.run, self.engine, self.dataset = config, run, engine, dataset.identity
        training = config.training
        ranks, parts = engine.num_processes, training.accumulate
        if training.batch_size % (ranks * parts):
            times = f" times training.accumulate {parts}" if parts > 1 else ""
            raise UserError(
                f"training.batch_size {training.batch_size} is not a multiple of {ranks} processes{times}",
                "choose a batch size that has equal parts",
            )
        self.diffusion = Diffusion(config.diffusion)
        bare = build(config).to(engine.device)
        self.dim = bare.dim
        if training.compile and training.channels_last:  # alone it is slower
            bare.backbone.to(memory_format=torch.channels_last)
        self.average = Average(bare, law(training))
        bare.backbone.checkpointing = training.checkpoint_activations
        if training.compile:
            bare.backbone.compile_regions()
        self.model = engine.prepare(bare)
        self.bare: Autoencoder = engine.unwrap_model(self.model)
        self.optimizer = optimizers.create(self.bare, training)
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
        self.images = dataset.images
        self.some_rows = spread(dataset.rows("train"), MOMENT_IMAGES)
        self._measured_at: int | None = None
        self.snapshots = (
            Snapshots(bare, run.averages if engine.is_main_process else None)
            if training.average == "power"
            else None
        )
        self.regularizers = regularizers.create(training)
        self.timesteps = timesteps.create(config.diffusion)
        self.uncertainty = (
            Uncertainty(self.diffusion.half_log_snr, training.seed, engine.device)
            if config.diffusion.weighting == "learned-uncertainty"
            else None
        )
        self._learners = [each for each in (self.timesteps, self.uncertainty) if each is not None]
        self.step = 0
        self.sums = Sums(engine.device)
        self.logged = 0

    def save(self) -> None:
        """Writes the checkpoint, then the averaged weights; each is whole or as it was before.

        Every process calls it, the main one writes, and the others wait for it; processes of any number can go on from
        it.
        """
        self.sums.share()
        if self.engine.is_main_process:
            self._write()
        processes.wait()

    @property
    def _parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {
            "model": Weights(self.bare),
            "average": Weights(self.average.model),
            "optimiser": self.optimizer,
            "sums": self.sums,
        }
        younger = {
            "timesteps": self.timesteps,
            "uncertainty": self.uncertainty,
            snapshots.PART: self.snapshots,
        }
        return parts | {name: part for name, part in younger.items() if part is not None}

    def _write(self) -> None:
        self.averaged()  # whose batch-norm statistics are the checkpoint's
        facts: dict[str, Any] = {"step": self.step, "logged": self.logged}
        facts |= {"experiment": self.config.experiment(), "dataset": self.dataset}
        facts["precision"] = self.engine.mixed_precision
        checkpoint.write(self.run.state, self._parts, facts)
        self.save_average()

    def averaged(self) -> Autoencoder:
        """The averaged model, in evaluation mode; its batch-norm statistics are its own on some training images."""
        if self._measured_at != self.step:
            self.average.model.remeasure(self.images, self.some_rows)
            self._measured_at = self.step
        return self.average.model

    def save_average(self) -> None:
        """Writes ``model.safetensors``."""
        self.run.save_model(self.averaged().state_dict(), self.step, self.config)

    def average_is_saved(self) -> bool:
        """Whether ``model.safetensors`` has the averaged weights, in whatever form an earlier version wrote them."""
        if not self.run.weights.exists():
            return False
        try:
            stored, average = load_tensors(self.run.weights)[0], self.averaged().state_dict()
        except UserError:  # damaged: they are written anew
            return False
        same = stored.keys() == average.keys()
        return same and all(torch.equal(stored[name], value.cpu()) for name, value in average.items())

    def resume(self) -> bool:
        """Goes back to the run's checkpoint.

        Returns:
            Whether there was one.

        Raises:
            UserError: The checkpoint is damaged, or of another experiment.
        """
        if not self.run.state.exists():
            if self.run.average_of.exists():
                source = read_json(self.run.average_of).get("run")
                raise UserError(
                    f"{self.run.path} holds averaged weights alone, which no training can go on from",
                    f"train the run on that they are of, {source}",
                )
            return False
        facts = checkpoint.read(self.run.state, self._parts, self.config, self.dataset)
        self.step, self.logged = int(facts["step"]), int(facts["logged"])
        # Runs of earlier versions have moments of the last batches: they keep them.
        self._measured_at = self.step
        return True

    def check_agreement(self, imported: bool) -> None:
        """Raises UserError where the processes do not go on from the same step, or from imported weights alike."""
        latest, earliest, some, none = processes.largest(self.step, -self.step, imported, not imported)
        if some and none:
            raise UserError(
                f"only some of the processes have found the imported weights {self.run.weights}",
                "the run directory must be one folder that all machines share",
            )
        if latest != -earliest:
            raise UserError(
                f"the processes start at steps from {-earliest:.0f} to {latest:.0f}",
                "the run directory must be one folder that all machines share",
            )

    def start_from_import(self) -> bool:
        """Takes the imported weights as step 0 of both the model and its average.

        Returns:
            Whether the run is an import that no training went on with yet.

        Raises:
            UserError: The weights are damaged, of other settings, or not those of step 0.
        """
        if not self.run.untrained:
            return False
        try:
            facts = loads_object(load_into(self.bare, self.run.weights).get("dmz", "{}"))
        except ValueError as error:
            raise UserError(
                f"{self.run.weights} does not say which step it is of: {error}",
                "import the weights again into another --run",
            ) from error
        if facts.get("step") != 0:
            raise UserError(
                f"{self.run.weights} is of step {facts.get('step')}, but {self.run.state} is missing",
                "restore it, or import the weights again into another --run",
            )
        self.average.model.load_state_dict(self.bare.state_dict())
        return True

    def rate(self, step: int) -> float:
        """The learning rate of the step after ``step`` steps: it rises in the warm-up and falls in the decay."""
        training = self.config.training
        rising = (step + 1) / max(training.warmup, 1)
        falling = (training.steps - step) / max(training.decay * training.steps, 1)
        return training.learning_rate * min(1.0, rising, falling)

    def losses(self, model: nn.Module, x0: Tensor, numbers: Draw, codes: Tensor | None) -> dict[str, Tensor]:
        """The loss terms of images under given random numbers and codes, each (B,).

        Arguments:
            model: The autoencoder, or what wraps it.
            x0: Images (B, C, H, W).
            numbers: The random numbers of these images.
            codes: Their codes (B, …); ``None`` takes the most probable ones (or there are none).
        """
        x_t = self.diffusion.add_noise(x0, numbers.index, numbers.perturbed)
        output = model(x0, x_t, self.diffusion.model_timesteps(numbers.index), codes=codes)
        return self.diffusion.losses(output, x0, x_t, numbers.index, numbers.noise)

    def train_step(self) -> None:
        """One optimizer step; adds its mean loss terms and gradient norm to ``sums``, on the device."""
        training, engine = self.config.training, self.engine
        rank, ranks = engine.process_index, engine.num_processes
        named = ("step", training.seed, self.step)
        whole = draw(self.config, training.batch_size, engine.device, *named, timesteps=self.timesteps)
        if self.uncertainty is not None:
            whole = replace(whole, weight=whole.weight * self.uncertainty.factors(whole.index))
        numbers = whole.part(rank, ranks)
        x0 = self.feed(self.step, numbers.flip if self.config.data.flip else None)
        torch.manual_seed(derive("dropout", training.seed, self.step, rank))
        self.model.train()
        terms = self._backward(x0, numbers)
        for learner in self._learners:
            # Of all processes, in the order of the whole batch: each has the same history.
            learner.update(whole.index, engine.gather(terms["loss"]))
        norm = engine.clip_grad_norm_(self.model.parameters(), training.gradient_clip or math.inf)
        self.optimizer.step(self.rate(self.step))
        self.bare.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.bare, self.step)
        if self.snapshots is not None:
            self.snapshots.update(self.bare, self.step)
        terms = {name: value * numbers.weight for name, value in terms.items()}
        for name, value in {**terms, "gradient_norm": norm}.items():
            self.sums.add(name, value)

    def _backward(self, x0: Tensor, numbers: Draw) -> dict[str, Tensor]:
        """Leaves the gradients of the mean weighted loss in the parameters; gives the loss terms, each (B,).

        The encoder, whose batch norm mixes the images, always sees the batch at once. The U-Net takes it in
        ``training.accumulate`` parts, each of which runs back as far as the codes; the last one takes what the codes
        have gathered along into the encoder, in the one pass whose gradients the processes average.
        """
        engine, parts = self.engine, self.config.training.accumulate
        with engine.autocast():
            logits = self.bare.logits(x0) if self.dim else None
            codes = None if logits is None else self._relaxed(logits, numbers)
        results: list[dict[str, Tensor]] = []
        owed = self._regularization(logits)
        for k in range(parts):
            part, last = numbers.part(k, parts), k == parts - 1
            rows = slice(k * len(x0) // parts, (k + 1) * len(x0) // parts)
            own = None if codes is None else codes[rows]
            seen = own if own is None or last else own.detach().requires_grad_()
            # A launched process wraps the model even where it is the only one; Accelerate's no_sync knows only several.
            with nullcontext() if last else getattr(self.model, "no_sync", nullcontext)():
                with engine.autocast():
                    terms = self.losses(self.model, x0[rows], part, seen)
                loss = (terms["loss"] * part.weight).sum() / len(x0)
                engine.backward(loss + owed if last else loss)
            if own is not None and not last:
                assert seen is not None and seen.grad is not None
                owed = owed + (own * seen.grad).sum()
            results.append({name: value.detach() for name, value in terms.items()})
        return {name: torch.cat([terms[name] for terms in results]) for name in results[0]}

    def _relaxed(self, logits: Tensor, numbers: Draw) -> Tensor:
        """Training codes at the temperature of this step; of nested bits the prefix that was drawn."""
        assert numbers.codes is not None  # there is some noise wherever there are logits
        latent = self.bare.latent
        codes = latent.relax(logits, numbers.codes, temperature(self.config.model, self.step))
        return codes if numbers.prefix is None else latent.kept(codes, numbers.prefix)

    def _regularization(self, logits: Tensor | None) -> Tensor:
        """What the regularizers add to the loss; adds each of their numbers to ``sums``."""
        total = torch.zeros((), device=self.engine.device)
        for name, (weight, regularizer) in self.regularizers.items():
            assert logits is not None  # the settings refuse them where there is no code
            value = regularizer(self.bare.latent, logits.float())
            self.sums.add(name, value)
            total = total + weight * value
        return total

    @torch.no_grad()
    def valid_loss(self) -> float | None:
        """The mean loss of the averaged weights on hard bits of validation images, same noise every time."""
        total, count = 0.0, 0
        for start in range(0, len(self.valid_images), 128):
            x0 = to_unit(self.valid_images[start : start + 128], self.engine.device)
            numbers = draw(self.config, len(x0), self.engine.device, "valid", start)
            total += self.losses(self.averaged(), x0, numbers, None)["loss"].sum().item()
            count += len(x0)
        return total / count if count else None

    def pictures(self) -> Path:
        """Writes the grid of this step; see :func:`~dmzcli.training.preview.preview`."""
        file = training_pictures(self.run) / f"step-{self.step:07d}.png"
        some = self.images[spread(self.some_rows, VALID_IMAGES)]
        shown = self.valid_images if len(self.valid_images) else some
        write_png(file, preview(self.averaged(), shown, some))
        return file
