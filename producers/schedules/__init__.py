"""Schedules: the asking side."""
