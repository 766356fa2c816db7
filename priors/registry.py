"""Kinds of priors by name: the built-in ones, and those of other packages.

A package adds a kind either by calling :func:`register`, or by an entry point of the group ``dmz.priors``
whose name is the kind and whose value is the class. Entry points are loaded only when their kind is asked
for, so a broken package breaks only its own kind; a built-in kind cannot be replaced.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from priors import options as opts
from priors import storage
from priors.base import Prior
from priors.errors import PriorError, did_you_mean
from priors.fit import Report

GROUP = "dmz.priors"
_KINDS: dict[str, type[Prior]] = {}
P = TypeVar("P", bound=type[Prior])


def check_class(cls: Any) -> None:
    """Raises PriorError unless ``cls`` is a concrete, well-formed subclass of :class:`priors.Prior`."""
    name = getattr(cls, "__name__", repr(cls))
    if not (isinstance(cls, type) and issubclass(cls, Prior)):
        raise PriorError(f"{name} is not a subclass of priors.Prior", "derive the class from it")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise PriorError(f"{name} does not define {missing}", "define what the base class leaves open")
    for attribute in ("kind", "summary"):
        text = getattr(cls, attribute, None)
        if not isinstance(text, str) or not text.strip() or "\n" in text:
            raise PriorError(f"{name}.{attribute} is {text!r}; expected one line of text")
    if cls.kind != cls.kind.strip().lower() or any(c.isspace() or c in "/\\=," for c in cls.kind):
        raise PriorError(
            f"{name}.kind is {cls.kind!r}; expected lower case without spaces, slashes or commas"
        )
    if cls.automatic and (cls.memorises or not cls.exact):
        raise PriorError(f"{name} is automatic; expected an exact kind that does not memorize")
    try:
        opts.check_class(cls.Options)
    except TypeError as error:
        raise PriorError(f"{name}.Options: {error}", "declare its fields with priors.option") from error


def register(cls: P) -> P:
    """Adds a kind to the registry; usable as a decorator.

    Arguments:
        cls: A subclass of :class:`priors.Prior` with its own ``kind``.

    Returns:
        The class itself.

    Raises:
        PriorError: The name is taken, a method is missing, or a class attribute is malformed.
    """
    check_class(cls)
    if cls.kind in _KINDS and _KINDS[cls.kind] is not cls:
        raise PriorError(f"the kind '{cls.kind}' is already registered", "choose another name")
    _KINDS[cls.kind] = cls
    return cls


@functools.cache
def _entry_points() -> dict[str, tuple[metadata.EntryPoint, ...]]:
    by_kind: dict[str, tuple[metadata.EntryPoint, ...]] = {}
    for entry in metadata.entry_points(group=GROUP):
        by_kind[entry.name] = (*by_kind.get(entry.name, ()), entry)
    return by_kind


def kind_class(kind: str) -> type[Prior]:
    """The class of a kind, loading its entry point where it comes from another package.

    Raises:
        PriorError: The kind is unknown, doubled, or its package is broken.
    """
    if kind in _KINDS:
        return _KINDS[kind]
    entries = _entry_points().get(kind, ()) if isinstance(kind, str) else ()
    if not entries:
        raise PriorError(f"unknown prior '{kind}'", did_you_mean(str(kind), available()))
    values = sorted({entry.value for entry in entries})
    if len(values) > 1:
        raise PriorError(
            f"the kind '{kind}' comes from several packages: {', '.join(values)}", "keep one of them"
        )
    try:
        cls = entries[0].load()
        check_class(cls)
    except Exception as error:  # another package's code may raise anything
        raise PriorError(
            f"the prior '{kind}' cannot be loaded from {values[0]}: {error}", "repair or remove its package"
        ) from error
    if cls.kind != kind:
        raise PriorError(
            f"the entry point '{kind}' gives the kind '{cls.kind}'", "the two names must be the same"
        )
    _KINDS[kind] = cls
    return cls


def available() -> list[str]:
    """Names of all kinds, sorted.

    Example:
        >>> "bernoulli" in available()
        True
    """
    return sorted({*_KINDS, *_entry_points()})


def automatic() -> list[str]:
    """Names of the kinds that ``auto`` may choose from: no network, no memorizing, exact likelihood."""
    names = []
    for kind in available():
        try:
            cls = kind_class(kind)
        except PriorError:
            continue  # a broken package is reported when its kind is asked for
        if cls.automatic:
            names.append(kind)
    return names


def describe(kind: str) -> dict[str, Any]:
    """Facts of a kind: ``kind``, ``summary``, ``exact``, ``automatic``, ``memorises`` and ``options``.

    Arguments:
        kind: Name of a kind.

    Returns:
        A dictionary; ``options`` maps names to (type in words, default, help).

    Raises:
        PriorError: The kind is unknown or broken.
    """
    cls = kind_class(kind)
    facts = {name: getattr(cls, name) for name in ("kind", "summary", "exact", "automatic", "memorises")}
    return {**facts, "options": opts.describe(cls.Options)}


def parse_options(kind: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Typed options from strings, such as ``--set components=32`` gives.

    Arguments:
        kind: Name of a kind.
        texts: Option → value as text; ``auto`` leaves the choice to the fit where that is allowed.

    Returns:
        Option → typed value, for :func:`create`.

    Raises:
        PriorError: The kind or an option is unknown, or a value does not fit.
    """
    return opts.parse(kind_class(kind).Options, kind, texts)


def create(kind: str, dim: int, seed: int = 0, **options: Any) -> Prior:
    """A new prior, not fitted yet.

    Arguments:
        kind: Name of a kind.
        dim: Number of bits of a code.
        seed: Seed of everything random in the fit.
        options: Options of the kind.

    Raises:
        PriorError: The kind or an option is unknown, or a value does not fit.

    Example:
        >>> create("uniform", dim=8).dim
        8
    """
    return kind_class(kind)(dim, seed, **options)


def load(folder: str | Path) -> Prior:
    """The prior that was saved to ``folder``.

    Raises:
        PriorError: A file is missing, truncated, foreign, of another version or of an unknown kind.
    """
    folder = Path(folder)
    header, state = storage.read(folder)
    file = folder / "prior.json"
    try:
        kind, metadata_ = header["kind"], dict(header["metadata"])
        cls = kind_class(kind)
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(header["options"]).items()}
        prior = cls(
            header["dim"], header["seed"] % 2**64, **options
        )  # earlier ones may be negative: the same draws
        prior.given_dim = int(header["given_dim"])
        prior._load_state(state)
        prior.report = None if header["report"] is None else Report(**header["report"])
    except PriorError as error:
        raise PriorError(f"{file}: {error.message}", error.hint) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise PriorError(
            f"{file} does not describe a whole prior: {error}", "save the prior again"
        ) from error
    prior.metadata, prior.sha256, prior._fitted = metadata_, header["sha256"], True
    prior.saved_law = int(header.get("law", 1))
    return prior
