"""The programs of other task queues: each runs in an environment of its own, made from the .txt beside it."""
