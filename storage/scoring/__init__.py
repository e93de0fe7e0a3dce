"""Scorings: a dataset in, a dataset out; what the asking side, the duties and the engines all read."""
