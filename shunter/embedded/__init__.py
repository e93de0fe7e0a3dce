"""A real Redis and a real Postgres for one machine, which live and die with the process that starts them."""

from shunter.embedded.errors import EmbeddedServiceError
from shunter.embedded.postgres import start_postgres
from shunter.embedded.redis import start_redis
from shunter.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "EmbeddedServiceError", "start_postgres", "start_redis"]
