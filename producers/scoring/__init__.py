"""Scoring whole datasets: the asking side."""
