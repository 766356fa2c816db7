"""Tables of every discrete family: bits alone, that say exactly what the codes were."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dmzcli.codes.encode import encode
from dmzcli.codes.fit import fit
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import build
from dmzcli.model.pixels import to_unit

HASH = "b" * 64
FAMILIES = {
    "bernoulli": {"model__latent": "bernoulli"},
    "categorical": {"model__latent": "categorical", "model__values": 4},
    "ordinal": {"model__latent": "ordinal", "model__values": 16},
}
every_family = pytest.mark.parametrize("name", FAMILIES)


def encoded(tiny, few, name, mode="mode"):
    """An untrained model, with its own batch-norm moments, so that codes differ, and its table of ``few``."""
    model = build(tiny(**FAMILIES[name])).eval()
    model.remeasure(few.images)
    encode(model, few, Path("t.h5"), HASH, mode)
    return model, BitTable.read("t.h5")


@every_family
def test_a_table_holds_the_codes_exactly(tiny, few, name):
    model, table = encoded(tiny, few, name)
    with torch.no_grad():
        logits = model.logits(to_unit(few.images))
        expected = model.latent.hard(logits)
    assert len(np.unique(table.bits, axis=0)) > 10
    assert torch.equal(model.latent.codes(torch.from_numpy(table.bits)).to(expected.dtype), expected)
    assert table.family == name and table.cardinalities.tolist() == model.latent.cardinalities.tolist()
    assert table.groups == (model.config.model.variable_bits,) * model.latent.variables


@every_family
def test_drawn_codes_are_a_function_of_the_seed(tiny, few, name):
    _, table = encoded(tiny, few, name, "sample")
    Path("t.h5").unlink()
    _, again = encoded(tiny, few, name, "sample")
    assert np.array_equal(table.bits, again.bits)


def test_categorical_priors_follow_the_groups_of_a_table(tiny, few):
    _, table = encoded(tiny, few, "ordinal")
    done = fit(table, Path("t.h5"), "categorical", out=Path("p"))
    assert done.prior.options.groups == (4, 4)
    assert fit(table, Path("t.h5"), "categorical", out=Path("p"), reuse=True).reused
    only = fit(table, Path("t.h5"), "categorical", ["grouping=groups"], out=Path("q")).prior
    assert only.report.chosen["grouping"] == "groups" and only.report.chosen["block"] == 4


def test_bits_of_their_own_are_no_groups(tiny, few):
    _, table = encoded(tiny, few, "bernoulli")
    assert fit(table, Path("t.h5"), "categorical", out=Path("p")).prior.options.groups is None


@pytest.mark.parametrize("values", [[3, 2], [2] * 5, [4] * 5])
def test_cardinalities_of_other_bits_are_refused(tiny, few, values):
    _, table = encoded(tiny, few, "categorical")
    with pytest.raises(UserError, match="are not those of 8 bits"):
        _ = dataclasses.replace(table, cardinalities=np.array(values)).groups
