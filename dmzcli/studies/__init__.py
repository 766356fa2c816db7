"""Grids of fits, samples or scores that are made cell by cell, resume, and end in one table and one plot."""
