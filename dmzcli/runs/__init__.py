"""A run directory: its paths, settings and weights; how it is named, found and planned."""

from dmzcli.runs.find import find_run, find_run_of, runs_in
from dmzcli.runs.run import Run

__all__ = ["Run", "find_run", "find_run_of", "runs_in"]
