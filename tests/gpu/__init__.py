"""Tests that need CUDA; without it they are skipped."""
