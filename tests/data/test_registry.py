"""Datasets of other packages: an entry point gives one, and a broken one breaks nothing else."""

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from dmzcli.data import Content, Source, load, names, registry, status
from dmzcli.errors import UserError
from dmzcli.system.files import cache_root

PACKAGE = """
import numpy as np
from dmzcli.data import Content, Source

class Stripes(Source):
    name = "stripes"
    summary = "twelve striped squares"
    how_to_get = "nothing to do"
    count = 12

    def find(self, folders):
        return folders[0]

    def read(self, where, crop, progress):
        images = np.tile(np.array([0, 255] * 4, np.uint8), (12, 8, 1))[..., None]
        return Content(crop.apply_all(images, self.name), np.repeat(np.arange(3, dtype=np.uint8), 4))

class Lost(Stripes):
    name = "lost"

    def find(self, folders):
        raise RuntimeError("no such drive")

class Other(Stripes):
    name = "other"

class Half(Source):
    name = "half"

not_one = 3
"""
ENTRIES = {
    "stripes": "striped_squares:Stripes",
    "lost": "striped_squares:Lost",
    "misnamed": "striped_squares:Other",
    "half": "striped_squares:Half",
    "not-one": "striped_squares:not_one",
    "absent": "package_that_is_not_there:Source",
    "digits": "striped_squares:Stripes",
}


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path):
    """A package with good and bad datasets; afterwards nobody knows of it."""
    (tmp_path / "striped_squares.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    group = registry.SOURCES.group
    entries = [metadata.EntryPoint(name, value, group) for name, value in ENTRIES.items()]
    entries += [metadata.EntryPoint("twice", f"striped_squares:{name}", group) for name in "AB"]
    points = metadata.EntryPoints(entries)
    monkeypatch.setattr(metadata, "entry_points", lambda **query: points.select(**query))
    monkeypatch.setattr(registry.SOURCES, "entries", dict(registry.SOURCES.entries))


def test_an_entry_point_is_a_dataset(dmz):
    assert {"stripes", "digits"} <= {*names()}
    dataset = load("stripes", size=4, fit="resize")
    assert dataset.identity.startswith("stripes/4x4x1-resize/") and len(dataset.rows("test")) == 4
    listed = dmz("data", "list", "--json").json["datasets"]
    row = next(row for row in listed if row["name"] == "stripes")
    assert (row["present"], row["count"], row["summary"]) == (True, 12, "twelve striped squares")
    assert "twelve striped squares" in " ".join(dmz("data", "list").out.split())


def test_a_built_in_dataset_cannot_be_replaced():
    assert len(load("digits")) == 1797


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("absent", "the dataset 'absent' cannot be loaded from package_that_is_not_there:Source: No module"),
        ("half", "'half' cannot be loaded from striped_squares:Half: Half does not define find, read"),
        ("not-one", "'not-one' cannot be loaded from striped_squares:not_one: 3 is not a dmzcli.data.Source"),
        ("misnamed", "'misnamed' cannot be loaded from striped_squares:Other: it is named 'other'"),
        ("twice", "'twice' comes from several packages: striped_squares:A, striped_squares:B"),
        ("lost", "the dataset 'lost' cannot be looked for: no such drive"),
    ],
)
def test_a_broken_one_is_told_when_it_is_named(dmz, name, sentence):
    with pytest.raises(UserError) as caught:
        load(name)
    assert sentence in caught.value.message and caught.value.hint
    row = next(row for row in status() if row["name"] == name)
    assert sentence in row["problem"] and not row["present"]
    assert sentence in dmz("data", "list").err
    assert len(load("digits")) == 1797


def test_a_class_can_be_decorated():
    @registry.register
    class Mine(Source):
        name, summary, how_to_get = "mine", "one gray square", "here"

        def find(self, folders):
            return Path()

        def read(self, where, crop, progress):
            return Content(np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, np.uint8))

    assert Mine.name in names() and load("mine").images.shape == (1, 4, 4, 1)
    with pytest.raises(ValueError, match="a dataset named 'mine' is registered already"):
        registry.register(Mine())


def test_the_cache_lies_where_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("DMZ_CACHE", str(tmp_path))
    assert cache_root() == tmp_path and registry.cache_folder() == tmp_path / "datasets"
    monkeypatch.delenv("DMZ_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "dmz"
