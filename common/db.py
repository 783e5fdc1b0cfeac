"""SQL that Django's ORM has no words for, on the default connection.

Parameters are psycopg's: `%s` with a list, or `%(name)s` with a dict. Errors are Django's (`django.db.Error`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from psycopg.sql import Composable

Statement = str | Composable
Parameters = Sequence[Any] | Mapping[str, Any] | None


def fetch(statement: Statement, parameters: Parameters = None) -> list[tuple[Any, ...]]:
    """Return all rows of a statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def fetch_one(statement: Statement, parameters: Parameters = None) -> tuple[Any, ...] | None:
    """Return the first row of a statement, or None."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def execute(statement: Statement, parameters: Parameters = None) -> int:
    """Run a statement, and return how many rows it returned or changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        count: int = cursor.rowcount
    return count


def distinct(table: str, column: str, condition: str) -> str:
    """Return the query for the distinct values (column `value`) of an indexed column: one index step for each."""
    return f"""
WITH RECURSIVE found(value) AS (
    (SELECT {column} FROM {table} WHERE {condition} ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (SELECT {column} FROM {table} WHERE {condition} AND {column} > found.value ORDER BY {column} LIMIT 1)
      FROM found WHERE found.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL
"""  # noqa: S608  (names from code)
