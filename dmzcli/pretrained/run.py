"""A run whose step 0 is foreign weights: the denoiser's are theirs, the encoder's and cross-attention's are new.

The new layers are drawn from ``training.seed``; the last one of every cross-attention is zero, so that the first
output is that of the foreign model, whatever the bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dmzcli.config import Config, assignments, given_only, merge, parse
from dmzcli.config.experiment import says
from dmzcli.config.sections import OPEN
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder, build
from dmzcli.pretrained.weights import EXPECTED, Weights
from dmzcli.runs import Run
from dmzcli.runs.plan import locate
from dmzcli.system.files import sha256, write_json
from dmzcli.system.locks import hold


@dataclass(frozen=True)
class Imported:
    """What became of foreign weights; ``import.json`` of a run.

    Attributes:
        source: Name of the file.
        sha256: Of the file.
        layout: ``openai`` or ``diffusers``.
        loaded, parameters: Number of tensors that were loaded, and of their elements.
        new: The run's tensors that the file did not have.
        left_over: The file's tensors that the run has no place for.
        assumed: Settings that neither the file nor the user said.
    """

    source: str
    sha256: str
    layout: str
    loaded: int
    parameters: int
    new: tuple[str, ...]
    left_over: tuple[str, ...]
    assumed: dict[str, Any]


def prepare(
    foreign: Weights,
    dataset: str | None = None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Sequence[str] = (),
) -> tuple[Config, dict[str, Any]]:
    """The settings of a run that starts from foreign weights.

    Arguments:
        foreign: What the weights say.
        dataset: Registered name or path; ``None`` leaves it to the training.
        flags: Nested; entries of ``None`` were not given.
        settings: ``key=value`` entries.

    Returns:
        The resolved settings, and those among them that were assumed.

    Raises:
        UserError: A setting contradicts the weights, or is wrong in itself.
    """
    source = {"data": {"dataset": "" if dataset is None else locate(dataset)}}
    chosen = merge(given_only(flags or {}), assignments(settings))
    assumed = []
    for section, values in foreign.settings.items():
        for name, there in values.items():
            key, here = f"{section}.{name}", chosen.get(section, {}).get(name, there)
            open_to_user = says(key, OPEN) or (key in foreign.assumed and key != "model.heads")
            if not open_to_user and _text(there) != _text(here):
                hint = "use --heads" if key == "model.heads" else "leave it out: the weights decide it"
                raise UserError(f"{key} is {there!r} in {foreign.file}, not {here!r}", hint)
            if key in foreign.assumed and name not in chosen.get(section, {}):
                assumed.append((section, name))
    config = parse(merge(foreign.settings, source, chosen), "flags and --set")
    size, channels = (foreign.settings["data"][name] for name in ("size", "channels"))
    config = config.resolved(size, channels)
    return config, {f"{section}.{name}": getattr(getattr(config, section), name) for section, name in assumed}


def _text(value: Any) -> str | list[str]:
    """A setting, however it was written: ``--set`` gives the parts of lists as text."""
    return [str(part) for part in value] if isinstance(value, list | tuple) else str(value)


def import_weights(foreign: Weights, config: Config, assumed: Mapping[str, Any], run: Run) -> Imported:
    """Writes a run directory whose weights are the foreign ones.

    Arguments:
        foreign: The weights.
        config, assumed: Settings, from :func:`prepare`.
        run: A directory without a run.

    Raises:
        UserError: The tensors are not those of the U-Net that they seemed to be, or the directory holds something.
    """
    with hold(run.path, folder=True):
        _check_free(run)
    with torch.device("meta"):  # a configuration may announce more than fits any memory
        state = Autoencoder(config).backbone.state_dict()
    of_codes = ("cross.", "code_embed.")
    expected = {name: tuple(value.shape) for name, value in state.items() if not name.startswith(of_codes)}
    stored = {name: tuple(value.shape) for name, value in foreign.tensors.items()}
    if expected != stored:
        name = min(k for k in expected.keys() | stored.keys() if expected.get(k) != stored.get(k))
        raise UserError(
            f"{foreign.file} is no U-Net that dmz can be: {name} is {stored.get(name, 'missing')}, "
            f"where {expected.get(name, 'nothing')} was expected",
            EXPECTED,
        )
    model = build(config)
    model.backbone.load_state_dict(model.backbone.state_dict() | foreign.tensors)
    outcome = Imported(
        source=foreign.file.name,
        sha256=sha256(foreign.file),
        layout=foreign.layout,
        loaded=len(stored),
        parameters=sum(value.numel() for value in foreign.tensors.values()),
        new=tuple(name for name in model.state_dict() if name.removeprefix("unet.") not in stored),
        left_over=foreign.left_over,
        assumed=dict(assumed),
    )
    with hold(run.path, folder=True):
        _check_free(run)
        write_json(run.imported, asdict(outcome))
        run.save_model(model.state_dict(), 0, config)
        # The last file: without it, the directory is no run, and the import can be repeated.
        run.save_config(config)
    return outcome


def _check_free(run: Run) -> None:
    config = run.path / "config.json"
    held = config if config.exists() else run.weights
    if held.exists() and (held == config or not run.imported.exists()):
        raise UserError(f"{run.path} holds {held.name} already", "import into another --run")
