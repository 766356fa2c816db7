"""What a file or folder of ours is, as plain facts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmzcli.errors import UserError
from dmzcli.runs import Run
from dmzcli.system.files import load_tensors, read_json
from dmzcli.system.reading import loads_object

HINT = (
    "dmz info takes a run directory, a bit table, an image pack, a prior's folder, model.safetensors, "
    "or a folder of samples or translations"
)
PLAN = "translations-plan.json"
"""What a folder of translations holds from the beginning, as :mod:`dmzcli.generation.translations` writes it."""


def describe(path: Path) -> dict[str, Any]:
    """The facts of a run, bit table, image pack, prior, weights file, or folder of samples or translations.

    Raises:
        UserError: It is none of these, or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist", "check the path")
    if path.is_dir():
        readers = {"config.json": _run, "prior.json": _prior, "plan.json": _samples, PLAN: _translations}
        for name, reader in readers.items():
            if (path / name).exists():
                return reader(path)
        raise UserError(f"{path} is no run, prior or folder of samples or translations", HINT)
    from dmzcli.codes.table import is_bit_table
    from dmzcli.data.packs import is_pack

    if path.suffix == ".safetensors":
        return _weights(path)
    if is_pack(path):
        return _pack(path)
    if path.suffix in (".h5", ".hdf5") or is_bit_table(path):
        return _table(path)
    raise UserError(f"{path} is no file of dmz", HINT)


def _run(path: Path) -> dict[str, Any]:
    from dmzcli.codes.find import tables_of

    run = Run(path)
    config = run.config
    facts: dict[str, Any] = {"what": "run", "path": str(path), "dataset": config.data.dataset}
    facts["images"] = f"{config.data.size}x{config.data.size}x{config.data.channels}"
    facts["latent"] = config.model.latent
    facts["bits"] = config.model.dim
    if run.weights.exists():
        weights = _weights(run.weights)
        facts |= {
            "step": weights["step"],
            "steps": config.training.steps,
            "parameters": weights["parameters"],
        }
        facts["model"] = run.weights_hash
    if run.imported.exists():
        facts["imported"] = read_json(run.imported)
    rows = run.read_metrics()
    latest: dict[str, float] = {name: value for row in rows for name, value in row.items()}
    facts |= {name: latest[name] for name in ("loss", "valid_loss", "images_per_second") if name in latest}
    facts["bit_table"] = str(run.bits) if run.bits.exists() else None
    facts["other_tables"] = [str(table) for table in tables_of(run) if table != run.bits]
    facts["priors"] = sorted(file.parent.name for file in run.priors.glob("*/prior.json"))
    facts["samples"] = sorted(file.parent.name for file in run.samples.glob("*/samples.json"))
    facts["config"] = config.model_dump(mode="json")
    return facts


def _table(path: Path) -> dict[str, Any]:
    from dmzcli.codes.find import owner_of
    from dmzcli.codes.table import BitTable
    from dmzcli.data import SPLITS

    table = BitTable.read(path)
    facts: dict[str, Any] = {
        "what": "bit table",
        "path": str(path),
        "rows": len(table.bits),
        "dim": table.dim,
    }
    facts |= {
        "family": table.family,
        "cardinalities": sorted({int(value) for value in table.cardinalities}),
        "dataset": table.dataset,
        "model": table.model,
        "created": table.created,
    }
    owner = owner_of(path, table.model)
    facts["run"] = None if owner.run is None else str(owner.run.path)
    facts["stale"] = owner.stale
    facts["splits"] = {split: len(table.rows(split)) for split in SPLITS}
    if len(table.bits):
        facts["mean_bit"] = float(table.bits.mean())
        facts["constant_bits"] = int((table.bits == table.bits[0]).all(0).sum())
    facts |= {"labels": list(table.label_names), "attributes": list(table.attribute_names)}
    return facts | {
        name: getattr(value, "tolist", lambda v=value: v)() for name, value in table.facts.items()
    }


def _pack(path: Path) -> dict[str, Any]:
    from dmzcli.data import SPLITS, packs
    from dmzcli.system.hdf5 import attributes

    dataset = packs.read(path)
    facts: dict[str, Any] = {"what": "image pack", "path": str(path), "dataset": dataset.identity}
    facts["images"] = "x".join(map(str, dataset.images.shape[1:]))
    facts |= {"crop": dataset.fit, "side": dataset.side, "lossy": dataset.lossy}
    facts["splits"] = {split: len(dataset.rows(split)) for split in SPLITS}
    facts |= {"labels": list(dataset.label_names), "attributes": list(dataset.attribute_names)}
    return facts | {"notes": list(dataset.notes), "created": str(attributes(path).get("created", "unknown"))}


def _prior(path: Path) -> dict[str, Any]:
    import priors

    prior = priors.load(path)
    facts: dict[str, Any] = {"what": "prior", "path": str(path), "kind": prior.kind, "dim": prior.dim}
    facts |= {"given_dim": prior.given_dim, "exact": prior.exact, "memorises": prior.memorises}
    facts |= {"options": vars(prior.options), "report": prior.report.as_dict() if prior.report else None}
    if prior.saved_law != prior.law:
        facts["note"] = (
            "an earlier version measured the report, and drew other codes; fit it again for new figures"
        )
    return facts | {"metadata": prior.metadata}


def _samples(path: Path) -> dict[str, Any]:
    finished = (path / "samples.json").exists()
    card = read_json(path / ("samples.json" if finished else "plan.json"))
    return {"what": "samples", "path": str(path), "finished": finished, **card}


def _translations(path: Path) -> dict[str, Any]:
    card = path / "translations.json"
    facts = read_json(card if card.exists() else path / PLAN)
    return {"what": "translations", "path": str(path), "finished": card.exists(), **facts}


def _weights(path: Path) -> dict[str, Any]:
    tensors, metadata = load_tensors(path)
    try:
        facts = loads_object(metadata["dmz"])
        step, experiment = facts["step"], facts["experiment"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds tensors, but no weights of dmz", HINT) from error
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # of batch norm: kept, not learned
    count = sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith(statistics))
    return {
        "what": "weights",
        "path": str(path),
        "step": step,
        "parameters": count,
        "experiment": experiment,
    }


def lines(facts: Mapping[str, Any], indent: str = "") -> str:
    """Facts for a person, one a line."""
    made = []
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            made += [f"{indent}{name}:", lines(value, indent + "  ")]
        else:
            empty = value is None or (isinstance(value, str | list | tuple | dict) and not value)
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            shown = "none" if empty else shown
            made.append(f"{indent}{name}: {f'{shown:.4g}' if isinstance(shown, float) else shown}")
    return "\n".join(made)
