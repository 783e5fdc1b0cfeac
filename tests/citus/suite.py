"""With `--citus` the whole suite runs on databases that are distributed over the machines of CITUS_URL."""

import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import connection

from conversations.placement import is_distributed
from scripts import citus_nodes
from tests import databases, under_roles

# More than there are machines, so that some chatbots of a test live together, and some do not.
_SHARDS = 4


@contextmanager
def database(name: str) -> Iterator[None]:
    """Have Django connected to a database of this name, migrated and distributed. It is dropped in the end."""
    citus_nodes.create(name)
    with citus_nodes.connected(name):
        with connection.cursor() as cursor:
            under_roles.make(cursor)
        call_command("migrate", verbosity=0)
        databases.switch_autovacuum_off()
        call_command("distribute", "--yes", "--shards", str(_SHARDS), stdout=io.StringIO())
        is_distributed.cache_clear()
        databases.prepare()
        yield
    citus_nodes.drop(name)


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests out that are about one PostgreSQL, and have each of the others commit what it does.

    The service commits as it goes. In one long transaction under several roles, Citus would need several sessions on
    each machine, which wait for each other.
    """
    left_out = [item for item in items if item.get_closest_marker("one_postgresql") or "shards" in _fixtures(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.get_closest_marker("django_db") or "db" in _fixtures(item):
            item.add_marker(pytest.mark.django_db(transaction=True), append=False)


def _fixtures(item: pytest.Item) -> Collection[str]:
    return getattr(item, "fixturenames", ())
