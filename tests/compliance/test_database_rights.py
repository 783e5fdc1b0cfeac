"""The roles of web server and workers: each table is declared, and granting leaves no other right."""

import subprocess
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection

from common.database_errors import describe_database_error
from compliance import database_rights
from compliance.checks import role_has_few_rights
from compliance.database_rights import RIGHTS, Rights
from tests import under_roles
from tests.commands import ours, run
from tests.functional.support import manage, worker_environment
from tests.under_roles import ROLES, STRANGER


@pytest.fixture
def cursor(db: None) -> Any:
    with connection.cursor() as cursor:
        yield cursor


def rights(cursor: Any) -> Any:
    """Return the rights on each table, column and sequence, and on the database and its schema."""
    cursor.execute(
        """
        SELECT relname, NULL, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT c.relname, attname, attacl::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE relnamespace = 'public'::regnamespace AND attacl IS NOT NULL
        UNION ALL
        SELECT datname, NULL, datacl::text FROM pg_database WHERE datname = current_database()
        UNION ALL
        SELECT nspname, NULL, nspacl::text FROM pg_namespace WHERE nspname = 'public'
        ORDER BY 1, 2
        """
    )
    return cursor.fetchall()


def test_every_table_is_declared() -> None:
    assert list(database_rights.undeclared()) == []


def test_an_undeclared_table_is_reported_with_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(RIGHTS) | {"chatbots.Nothing": Rights("SELECT", "")}
    del known["conversations.Message"]
    monkeypatch.setattr(database_rights, "RIGHTS", known)

    found = list(database_rights.undeclared())

    assert found[0].startswith(
        "conversations.Message has no rights in compliance/database_rights.py: add it to RIGHTS"
    )
    assert found[1].startswith("chatbots.Nothing is declared in compliance/database_rights.py but is no model")


def test_the_page_of_roles_names_one_for_each_command() -> None:
    roles = under_roles.command_roles()

    assert ours().keys() - roles.keys() == set(), (
        "Add them to docs/reference/commands.md, with the role that they need."
    )
    assert set(roles.values()) <= {"owner", "web", "worker", "none"}


def test_granting_again_changes_nothing(cursor) -> None:
    before = rights(cursor)
    under_roles.grant()
    assert rights(cursor) == before


def test_no_sequence_may_be_used_but_those_that_are_called_by_name(cursor) -> None:
    cursor.execute(
        """
        SELECT r.rolname, c.relname FROM pg_class c CROSS JOIN pg_roles r
         WHERE c.relkind = 'S' AND r.rolname = ANY(%s) AND has_sequence_privilege(r.rolname, c.oid, 'USAGE')
        """,
        [list(ROLES.values())],
    )
    assert set(cursor.fetchall()) == {
        (ROLES["web"], "compliance_request_seq"),
        (ROLES["worker"], "compliance_request_seq"),
        # On Citus, where the statement reads a table that is distributed or on each machine.
        (ROLES["web"], "compliance_replay_id_seq"),
        (ROLES["web"], "compliance_requestsubject_id_seq"),
        (ROLES["web"], "chatbots_changelogentry_id_seq"),
        (ROLES["web"], "conversations_identitylookup_id_seq"),
        (ROLES["worker"], "compliance_leftcopy_id_seq"),
    }
    cursor.execute(
        "SELECT FROM pg_class c CROSS JOIN pg_roles r WHERE c.relkind = 'S' AND r.rolname = ANY(%s) "
        "AND has_sequence_privilege(r.rolname, c.oid, 'UPDATE')",
        [list(ROLES.values())],
    )
    assert cursor.fetchall() == []


@pytest.mark.one_postgresql(reason="rights on Citus' own views")
def test_granting_revokes_rights_granted_by_others(cursor) -> None:
    before = rights(cursor)
    cursor.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC, {ROLES['web']}")
    cursor.execute(f"GRANT UPDATE (actor) ON chatbots_changelogentry TO {ROLES['worker']}")
    cursor.execute(f"GRANT CREATE ON SCHEMA public TO PUBLIC, {ROLES['worker']}")
    assert database_rights.excess(ROLES["worker"])

    under_roles.grant()

    assert database_rights.excess(ROLES["worker"]) == []
    assert rights(cursor) == before


def test_it_prints_what_it_would_do(cursor) -> None:
    before = rights(cursor)
    cursor.execute(f"REVOKE ALL ON chatbots_chatbot FROM {ROLES['web']}")

    out = run("grant_roles", "--web", ROLES["web"], "--worker", ROLES["worker"], "--dry-run").out

    assert rights(cursor) != before
    cursor.execute(out)
    assert rights(cursor) == before


@pytest.mark.one_postgresql(reason="roles that a rollback takes back")
@pytest.mark.parametrize(
    ("made", "found"),
    [
        ("", "There is no such role. Make it first, as a superuser: CREATE ROLE another LOGIN"),
        ("CREATE ROLE another SUPERUSER", "another is a superuser, which"),
        ("CREATE ROLE another CREATEROLE BYPASSRLS", "may make roles .* passes row-level security by"),
        ("CREATE ROLE another; GRANT compliance TO another", "owns the table of the change log"),
        ("CREATE ROLE another; GRANT pg_write_all_data TO another", "may change or remove entries of the change log"),
        ("CREATE ROLE another; GRANT pg_execute_server_program TO another", "may use files or programs"),
        ("CREATE ROLE another; GRANT pg_read_all_data TO another", "may read or change all tables"),
    ],
)
def test_nothing_is_granted_to_a_role_with_more_rights(cursor, made: str, found: str) -> None:
    cursor.execute(made or "SELECT 1")
    before = rights(cursor)

    with pytest.raises(CommandError, match=found):
        call_command("grant_roles", "--web", "another", "--worker", ROLES["worker"])

    assert rights(cursor) == before


def test_one_role_for_both_is_refused(cursor) -> None:
    with pytest.raises(CommandError, match="need a role each"):
        call_command("grant_roles", "--web", ROLES["web"], "--worker", ROLES["web"])


def test_the_check_warns_about_a_role_with_too_many_rights(cursor) -> None:
    [found] = role_has_few_rights(databases=["default"])
    assert (found.id, found.level) == ("compliance.W002", checks.WARNING)
    assert found.msg == "The database role of this process is a superuser."


def test_the_check_accepts_our_roles_and_makes_no_query_unless_asked(cursor) -> None:
    for role in ROLES:
        with under_roles.role(role):
            assert role_has_few_rights(databases=["default"]) == []
    assert role_has_few_rights(databases=None) == []
    assert role_has_few_rights in checks.registry.registry.deployment_checks


@pytest.mark.long(reason="starts a program")
@pytest.mark.django_db(transaction=True)
def test_a_command_names_the_right_that_its_role_lacks() -> None:
    environment = worker_environment(role=STRANGER)
    done = subprocess.run(manage("health"), env=environment, check=False, capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.startswith(
        "The role of DATABASE_URL lacks a right: SQLSTATE 42501 (permission denied for table chatbots_digestkey). "
    )
    assert "docs/reference/commands.md" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_user_is_created_under_the_web_role(cursor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery staple")
    call_command("createsuperuser", "--noinput", "--username", "boss", "--email", "boss@example.com")
    assert User.objects.get().is_superuser


def test_a_missing_right_is_reported_with_its_table(cursor) -> None:
    with under_roles.role("worker"), pytest.raises(ProgrammingError) as caught:
        cursor.execute("UPDATE chatbots_apikey SET label = 'a secret'")
    assert describe_database_error(caught.value) == "SQLSTATE 42501 (permission denied for table chatbots_apikey)"
