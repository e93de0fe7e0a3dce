"""Whether a fleet is well: facts are collected by reading it, and judged by pure checks."""
