"""The demo's model: `model.py` and `model.toml` are in its version directory, `training.py` made it."""
