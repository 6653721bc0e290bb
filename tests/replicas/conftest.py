"""A real PostgreSQL for those tests that need one."""

from __future__ import annotations

from tests.postgres import empty_postgres_url, own_postgres, postgres_server, postgres_url, postgres_with_tables

__all__ = ["empty_postgres_url", "own_postgres", "postgres_server", "postgres_url", "postgres_with_tables"]
