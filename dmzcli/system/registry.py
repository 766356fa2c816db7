"""Entries by name: the built-in ones, and those of other packages.

A package adds an entry by registering it, or by an entry point of the group ``dmz.<noun>s`` whose name is the entry's
and whose value is the entry. Entry points are loaded only when their name is asked for, so that a broken package breaks
only its own entry; a built-in one cannot be replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any, Generic, TypeVar

from dmzcli.errors import UserError, did_you_mean

T = TypeVar("T")


def check_texts(entry: Any, label: str) -> str:
    """The name of an entry.

    Raises:
        ValueError: ``name`` or ``summary`` is no line of text, or the name cannot stand in a command line.
    """
    for attribute in ("name", "summary"):
        text = getattr(entry, attribute, None)
        if not isinstance(text, str):
            raise ValueError(f"{label} has no class attribute {attribute!r}")
        if not text.strip() or "\n" in text:
            raise ValueError(f"{label}.{attribute} is {text!r}; expected one line of text")
    name = str(entry.name)
    if name != name.lower() or any(c.isspace() or c in "/\\=," for c in name):
        raise ValueError(f"{label}.name is {name!r}; expected lower case without spaces, slashes or commas")
    return name


class Registry(Generic[T]):
    """Well-formed entries by name.

    Arguments:
        noun: What an entry is, ``sampler``; its plural ends the name of the entry points' group.
        check: Returns a well-formed entry with a ``name``, made of what is registered; raises TypeError or ValueError
            for what is none.
    """

    def __init__(self, noun: str, check: Callable[[Any], T]) -> None:
        self.noun, self.group, self.check = noun, f"dmz.{noun}s", check
        self.entries: dict[str, T] = {}

    def add(self, given: Any) -> T:
        """Makes an entry known by its name.

        Raises:
            TypeError, ValueError: It is no entry, or the name is taken.
        """
        entry = self.check(given)
        name: str = getattr(entry, "name")  # noqa: B009
        if self.entries.get(name, entry) is not entry:
            raise ValueError(f"a {self.noun} named {name!r} is registered already")
        self.entries[name] = entry
        return entry

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({*self.entries, *metadata.entry_points(group=self.group).names})

    def get(self, name: str) -> T:
        """The entry of a name, loaded if it is another package's.

        Raises:
            UserError: The name is unknown or doubled, or its package is broken.
        """
        if name in self.entries:
            return self.entries[name]
        points = metadata.entry_points(group=self.group, name=name)
        values = sorted({point.value for point in points})
        if not values:
            raise UserError(
                f"unknown {self.noun} '{name}'", did_you_mean(name, self.names(), f"{self.noun}s")
            )
        if len(values) > 1:
            raise UserError(
                f"the {self.noun} '{name}' comes from several packages: {', '.join(values)}",
                "keep one of them",
            )
        try:
            entry = self.check(next(iter(points)).load())
            if (own := getattr(entry, "name")) != name:  # noqa: B009
                raise ValueError(f"it is named {own!r}")
            self.entries[name] = entry
            return entry
        except Exception as error:  # another package's code may raise anything
            raise UserError(
                f"the {self.noun} '{name}' cannot be loaded from {values[0]}: {error}",
                "repair or remove its package",
            ) from error

    def summaries(self) -> dict[str, str]:
        """What each entry is, by name; of a broken package, what is wrong with it."""

        def summary(name: str) -> str:
            try:
                return str(getattr(self.get(name), "summary"))  # noqa: B009
            except UserError as error:
                return error.message

        return {name: summary(name) for name in self.names()}
