"""The timesteps that a run was tuned for, in its ``tuned-steps.json``: one entry per sampler, T and threshold.

An entry says ``by`` which criterion they were found: ``score`` or ``error``; the first ones, by the error, say nothing.

Weights that were trained on bend their solutions elsewhere, so that entries hold for one digest of weights alone.
Importing it imports no torch.
"""

from __future__ import annotations

from typing import Any, Protocol

from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.system.files import read_json, write_json

FORMAT, VERSION = "dmz-tuned-steps", 1


class How(Protocol):
    """What is asked of a :class:`~dmzcli.generation.recipe.Recipe` here."""

    @property
    def sampler(self) -> str:
        """Name of a sampler."""

    @property
    def steps(self) -> int:
        """T."""

    @property
    def eta(self) -> float:
        """Noise of a step."""

    @property
    def threshold(self) -> str:
        """Bound of each estimate of the image."""

    @property
    def percentile(self) -> float:
        """Percentile of the dynamic threshold."""


def key(recipe: How) -> dict[str, Any]:
    """What the tuned timesteps of a recipe depend on, besides the weights."""
    from dmzcli.diffusion.samplers import sampler_class

    facts: dict[str, Any] = {"sampler": recipe.sampler, "law": sampler_class(recipe.sampler).law}
    facts |= {"steps": recipe.steps, "threshold": recipe.threshold}
    return facts | ({"percentile": recipe.percentile} if recipe.threshold == "dynamic" else {})


def check_deterministic(recipe: How) -> None:
    """Raises UserError where a sampler adds noise: its image of few steps is another one than that of many."""
    from dmzcli.diffusion.samplers import sampler_class

    if sampler_class(recipe.sampler).adds_noise or recipe.eta:
        how = f"the sampler '{recipe.sampler}'" + (f" with --eta {recipe.eta:g}" if recipe.eta else "")
        raise UserError(
            f"{how} adds noise, so that no timesteps can be tuned for it",
            "use --sampler unipc, dpm++ or ddim without --eta, or another --spacing",
        )


def entries_of(run: Run) -> list[dict[str, Any]]:
    """The entries for the run's weights; none where it was never tuned, or only for other weights.

    Raises:
        UserError: The file is damaged, or of a newer version.
    """
    stored = _read(run)
    return stored["entries"] if stored is not None and stored["weights"] == run.weights_hash else []


def entry_of(run: Run, recipe: How) -> dict[str, Any]:
    """The entry of a recipe, with its ``timesteps``, ascending, and the criterion ``by`` which they were found.

    Raises:
        UserError: There is none for this recipe or these weights, the sampler adds noise, or the file is damaged.
    """
    check_deterministic(recipe)
    wanted = key(recipe)
    for entry in entries_of(run):
        if all(entry.get(name) == value for name, value in wanted.items()):
            return {"by": "error", **entry}
    stored = _read(run)
    clip = "" if recipe.threshold == "clip" else f" --threshold {recipe.threshold}"
    if recipe.threshold == "dynamic":
        clip += f" --percentile {recipe.percentile:g}"
    command = f"dmz tune-steps --run {run.path} --sampler {recipe.sampler} --steps {recipe.steps}{clip}"
    if stored is not None and stored["weights"] != run.weights_hash:
        raise UserError(
            f"the timesteps of {run.path} were tuned for other weights than it has now",
            f"tune them anew: {command}",
        )
    raise UserError(
        f"{run.path} has no tuned timesteps for {recipe.sampler} at T = {recipe.steps}", f"run {command}"
    )


def store(run: Run, entry: dict[str, Any]) -> None:
    """Puts an entry into the run's file, in place of an earlier one of the same key and of all of other weights.

    Arguments:
        run: The run.
        entry: A recipe's :func:`key`, ``timesteps``, and how they were found.
    """
    of = {name for name in ("sampler", "steps", "threshold", "percentile") if name in entry}
    others = [old for old in entries_of(run) if any(old.get(name) != entry[name] for name in of)]
    entries = sorted([*others, entry], key=lambda each: (each["sampler"], each["steps"]))
    write_json(
        run.tuned, {"format": FORMAT, "version": VERSION, "weights": run.weights_hash, "entries": entries}
    )


def _read(run: Run) -> dict[str, Any] | None:
    """The file, if there is one, and its fields are what they should be."""
    if not run.tuned.exists():
        return None
    stored = read_json(run.tuned)
    if stored.get("format") == FORMAT and stored.get("version") != VERSION:
        raise UserError(
            f"{run.tuned} is of version {stored.get('version')}, this dmz reads {VERSION}", "update dmz"
        )
    entries = stored.get("entries")
    whole = stored.get("format") == FORMAT and isinstance(stored.get("weights"), str)
    if not (whole and isinstance(entries, list) and all(_is_entry(entry) for entry in entries)):
        raise UserError(f"{run.tuned} is damaged", "delete it, and tune anew with dmz tune-steps")
    return stored


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("timesteps"), list):
        return False
    numbers = [*entry["timesteps"], entry.get("steps")]
    return isinstance(entry.get("sampler"), str) and all(type(number) is int for number in numbers)
