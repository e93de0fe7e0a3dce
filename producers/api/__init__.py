"""The HTTP way in: submit, poll, cancel, and look at the fleet."""

from shunter.producers.api.app import create_app
from shunter.producers.api.server import serve

__all__ = ["create_app", "serve"]
