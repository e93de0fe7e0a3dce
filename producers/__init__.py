"""The ways in: the Python client, the HTTP API, and dataset scoring."""
