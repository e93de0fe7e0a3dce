"""The text demo's model: a published sentence encoder, as an optional extra."""
