"""What an experiment is: typed sections, and how presets, flags and ``--set`` become one."""

from dmzcli.config.experiment import Config, default, fields, parse
from dmzcli.config.overrides import (
    assignments,
    changed_data,
    data_settings,
    given_only,
    list_all_settings,
    merge,
    preset,
    presets,
)
from dmzcli.config.sections import DataConfig, DiffusionConfig, ModelConfig, TrainingConfig

__all__ = [
    "Config",
    "DataConfig",
    "DiffusionConfig",
    "ModelConfig",
    "TrainingConfig",
    "assignments",
    "changed_data",
    "data_settings",
    "default",
    "fields",
    "given_only",
    "list_all_settings",
    "merge",
    "parse",
    "preset",
    "presets",
]
