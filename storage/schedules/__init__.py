"""Schedules: which datasets are scored when, and what became of each window."""
