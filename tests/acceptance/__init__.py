"""Tests of whole processes, and of their deaths."""
