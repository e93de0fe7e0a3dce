"""Checking a model in its author's own process, before any fleet runs it."""
