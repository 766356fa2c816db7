"""Every latent family with every estimator: a training that is stopped and goes on leaves no trace."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from dmzcli.config import ModelConfig
from dmzcli.runs import Run
from dmzcli.training.engine import accelerator
from dmzcli.training.trainer import Trainer

FAMILIES = [name for name in get_args(ModelConfig.model_fields["latent"].annotation) if name != "none"]
ESTIMATORS = get_args(ModelConfig.model_fields["estimator"].annotation)


def trainer(config, few, name):
    made = Trainer(config, few, Run(Path(name)), accelerator("cpu", "no"))
    made.resume()
    return made


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_stopping_and_going_on_leaves_no_trace(tiny, few, family, estimator):
    settings = {"model__latent": family, "model__estimator": estimator, "model__values": 4}
    config = tiny(**settings, model__temperature_schedule="linear", model__temperature_steps=4)
    whole, first = trainer(config, few, "whole"), trainer(config, few, "run")
    for _ in range(4):
        whole.train_step()
    for _ in range(2):
        first.train_step()
    first.save()
    second = trainer(config, few, "run")
    for _ in range(2):
        second.train_step()
    assert second.step == whole.step == 4
    for one, other in ((whole.bare, second.bare), (whole.average.model, second.average.model)):
        for name, value in one.named_parameters():
            assert torch.equal(value, other.get_parameter(name)), name
