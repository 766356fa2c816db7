"""A study: many trainings that differ in stated ways, each measured alike, ending in tables and plots."""

from __future__ import annotations

from dmzcli.studies.study.cards import Cards, Done
from dmzcli.studies.study.declaration import Cell, Study, read_study
from dmzcli.studies.study.loop import prepare, run_study

__all__ = ["Cards", "Cell", "Done", "Study", "prepare", "read_study", "run_study"]
