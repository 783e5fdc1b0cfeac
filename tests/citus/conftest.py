"""Databases on a coordinator of Citus, migrated there, for tests of this folder."""

from collections.abc import Callable, Iterator

import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django import DjangoDbBlocker

from common.db import execute
from conversations.placement import is_distributed
from scripts import citus_nodes
from tests import databases, under_roles
from tests.commands import run

Distribute = Callable[..., str]

_NAME, _TEMPLATE = (f"{kind}_{databases.number_of_this_process()}" for kind in ("citus_tests", "citus_template"))


@pytest.fixture(scope="session")
def migrated(django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The name of a migrated database on the coordinator, without Citus: one PostgreSQL that is to grow."""
    citus_nodes.create_plain(_TEMPLATE)
    with django_db_blocker.unblock(), citus_nodes.connected(_TEMPLATE):
        with connection.cursor() as cursor:
            under_roles.make(cursor)
        call_command("migrate", verbosity=0)
        # A copy would take itself for a restored backup.
        execute("DELETE FROM compliance_service")
        under_roles.grant()
    yield _TEMPLATE
    citus_nodes.drop(_TEMPLATE)


@pytest.fixture
def coordinator(migrated: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The name of a migrated database of Citus, not distributed yet, to which Django is connected meanwhile."""
    citus_nodes.create(_NAME, template=migrated)
    is_distributed.cache_clear()
    try:
        with django_db_blocker.unblock(), citus_nodes.connected(_NAME):
            yield _NAME
    finally:
        is_distributed.cache_clear()
        citus_nodes.drop(_NAME)


@pytest.fixture
def distribute(coordinator: str) -> Distribute:
    """Runs the command, and returns what it says."""

    return lambda *options: run("distribute", *options).out
