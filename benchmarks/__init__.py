"""Limits and peers, measured side by side in one run."""
