"""Alembic's entry: runs the migrations on the connection that shunter.storage.database hands over."""

from __future__ import annotations

from alembic import context

from shunter.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
