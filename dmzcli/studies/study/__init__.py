"""A study: many trainings that differ in stated ways, each measured alike, ending in tables and plots."""

from __future__ import annotations

from dmzcli.studies.study.declaration import Cell, Study, read_study
from dmzcli.studies.study.loop import Done, check, gather, run_study

__all__ = ["Cell", "Done", "Study", "check", "gather", "read_study", "run_study"]
