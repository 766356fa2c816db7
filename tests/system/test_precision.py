"""Which type of numbers is computed in: what a convolution shows, not what a processor promises."""

import math

import pytest
import torch

from dmzcli.errors import UserError
from dmzcli.system import precision

CPU = torch.device("cpu")


@pytest.fixture
def slowness(monkeypatch):
    """Makes bfloat16 so many times slower than float32."""
    return lambda value: monkeypatch.setattr(precision, "bf16_slowness", lambda *shape: value)


def choose(asked, before=None):
    return precision.choose(asked, CPU, 8, 8, 16, before)


@pytest.mark.parametrize(("measured", "chosen"), [(0.5, "bf16"), (0.95, "no"), (1.0, "no"), (16.0, "no")])
def test_auto_takes_the_faster_one(slowness, measured, chosen):
    slowness(measured)
    assert choose("auto") == (chosen, None)
    assert choose("no") == ("no", None)


def test_an_explicit_type_is_taken_and_its_price_told(slowness):
    slowness(16.0)
    chosen, note = choose("bf16")
    assert chosen == "bf16" and "16.0 times as long as float32" in note
    slowness(0.5)
    assert choose("bf16") == ("bf16", None)


@pytest.mark.parametrize(
    ("measured", "before", "chosen"),
    [(1.2, "bf16", "bf16"), (16, "bf16", "no"), (0.8, "no", "no"), (0.4, "no", "bf16")],
)
def test_a_run_keeps_its_type_unless_that_costs_much(slowness, measured, before, chosen):
    slowness(measured)
    assert choose("auto", before).precision == chosen


def test_a_device_without_such_convolutions_computes_in_float32(monkeypatch):
    def missing(device, dtype, *shape):
        if dtype is torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        return 1.0

    monkeypatch.setattr(precision, "_seconds", missing)
    precision.bf16_slowness.cache_clear()
    assert choose("auto") == ("no", None)
    assert "cannot be computed on this cpu" in choose("bf16").note
    precision.bf16_slowness.cache_clear()


def test_what_a_checkpoint_says_is_taken_only_if_it_is_a_type(slowness):
    slowness(1.2)
    assert choose("auto", before="fp8").precision == "no"


def test_an_unknown_type_is_refused():
    with pytest.raises(UserError, match=r"^unknown precision 'bf61'$") as refusal:
        choose("bf61")
    assert "bf16" in refusal.value.hint


def test_the_measurement_is_a_ratio_and_leaves_global_randomness():
    before = torch.get_rng_state()
    for gradients in (True, False):
        assert 0 < precision.bf16_slowness(CPU, 4, 8, 2, gradients) < math.inf
    assert torch.equal(torch.get_rng_state(), before)


def test_training_tells_and_keeps_it(slowness, tiny, few):
    from pathlib import Path

    from dmzcli.runs import Run
    from dmzcli.system.progress import Silence
    from dmzcli.training import train
    from dmzcli.training.loop import checkpoint_facts

    class Listener(Silence):
        said = ()

        def say(self, message):
            self.said += (message,)

    slowness(16.0)
    listener = Listener()
    train(tiny(training__precision="bf16", training__steps=4), few, Run(Path("r")), "cpu", talk=listener)
    assert any("16.0 times as long" in line for line in listener.said)
    assert checkpoint_facts(Run(Path("r")))["precision"] == "bf16"
    slowness(1.2)  # auto would take float32 in a new run, but goes on in this one
    train(tiny(training__precision="auto", training__steps=6), few, Run(Path("r")), "cpu")
    assert checkpoint_facts(Run(Path("r")))["precision"] == "bf16"


def test_a_machine_decides_once_for_sampling(monkeypatch):
    """Near the threshold two measurements would choose differently: the same command would make other images."""
    measured = iter([0.89, 0.93])
    monkeypatch.setattr(precision, "bf16_slowness", lambda *shape: next(measured))

    def sampling():
        return precision.choose("auto", CPU, 8, 8, 16, gradients=False).precision

    assert [sampling(), sampling()] == ["bf16", "bf16"]
    assert next(measured) == 0.93  # nothing was measured again
    monkeypatch.setattr(precision, "bf16_slowness", lambda *shape: math.inf)
    assert precision.choose("auto", CPU, 16, 8, 16, gradients=False).precision == "no"
    assert "cannot be computed" in precision.choose("bf16", CPU, 16, 8, 16, gradients=False).note
