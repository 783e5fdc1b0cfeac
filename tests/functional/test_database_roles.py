"""Web server, cluster and commands work under their own database roles, which have no other rights.

After each test of this folder, `conftest.py` checks that PostgreSQL denied nothing.
"""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import Schedule, Task
from django_q.monitor import save_task

from compliance.cluster import broker
from tests import under_roles
from tests.functional.support import manage, worker_environment

pytestmark = pytest.mark.one_postgresql(reason="rights of a server's own databases and roles")


def test_a_cluster_drops_schedules_and_keeps_failed_tasks(db: None) -> None:
    Schedule.objects.create(name="of others", func="os.abort")
    task = {"id": "1", "name": "one", "func": "compliance.tasks.drain", "args": (), "kwargs": {}, "result": "code"}
    with under_roles.role("worker"):
        broker.drop_unexpected()
        for _ in range(2):
            save_task(task | {"success": False, "started": timezone.now(), "stopped": timezone.now()}, get_broker())
    assert not Schedule.objects.exists()
    assert Task.objects.get().attempt_count == 2


LOG = "chatbots_changelogentry"

# Statements that only the owner may run.
FORBIDDEN = {
    "change an entry": f"UPDATE {LOG} SET actor = 'nobody'",
    "remove an entry": f"DELETE FROM {LOG}",
    "empty the log": f"TRUNCATE {LOG}",
    "drop the log": f"DROP TABLE {LOG}",
    "switch its trigger off": f"ALTER TABLE {LOG} DISABLE TRIGGER ALL",
    "drop its trigger": f"DROP TRIGGER changelog_append_only ON {LOG}",
    "put a trigger before it": f"CREATE TRIGGER a BEFORE INSERT ON {LOG} EXECUTE FUNCTION chatbots_keep_public_id()",
    "change its trigger's function": "CREATE OR REPLACE FUNCTION chatbots_changelog_append_only() RETURNS trigger "
    "LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "block it": f"LOCK TABLE {LOG} IN ACCESS EXCLUSIVE MODE",
    "set its numbers back": f"ALTER TABLE {LOG} ALTER id RESTART",
    "take it": f"ALTER TABLE {LOG} OWNER TO CURRENT_USER",
    "work as a replica, without triggers": "SET session_replication_role = replica",
    "make a function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a function of its session": "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a table": "CREATE TABLE t (id int)",
    "make a table of its session": "CREATE TEMPORARY TABLE conversations_message (id int)",
    "make a schema": "CREATE SCHEMA s",
    "make a role": "CREATE ROLE r",
    "become the owner": "SET ROLE compliance",
    "grant": "GRANT compliance TO CURRENT_USER",
    "read passwords of roles": "SELECT rolpassword FROM pg_authid",
    "run programs": "COPY (SELECT 1) TO PROGRAM 'true'",
    "write files": "COPY (SELECT 1) TO '/tmp/never'",
    "read files": "SELECT pg_read_file('PG_VERSION')",
    "truncate": "TRUNCATE conversations_message",
    "make a schedule": "INSERT INTO django_q_schedule (func) VALUES ('os.abort')",
    "remove a user": "DELETE FROM auth_user",
    "remove a request": "DELETE FROM compliance_compliancerequest",
    "change a key's secret": "UPDATE chatbots_apikey SET prefix = 'x'",
    "forget the digest key": "DELETE FROM chatbots_digestkey",
}
FORBIDDEN_TO_WEB = {
    "erase a conversation": "DELETE FROM conversations_conversation",
    "erase messages": "DELETE FROM conversations_message",
    "change messages": "UPDATE conversations_message SET text = ''",
    "erase identities": "DELETE FROM conversations_identity",
    "erase files": "DELETE FROM conversations_uploadedfile",
    "forget who was erased": "DELETE FROM conversations_tombstone",
    "point an export elsewhere": "UPDATE compliance_export SET key = 'x'",
    "claim work": "INSERT INTO compliance_claim (owner) VALUES ('web')",
    "take tasks": "DELETE FROM django_q_ormq",
    "remove a schedule": "DELETE FROM django_q_schedule",
    "change a schedule": "UPDATE django_q_schedule SET func = 'os.abort'",
}
FORBIDDEN_TO_WORKER = {
    "make a key": "INSERT INTO chatbots_apikey (label) VALUES ('x')",
    "change a key": "UPDATE chatbots_apikey SET scopes = '{}'",
    "make a user": "INSERT INTO auth_user (username) VALUES ('x')",
    "change a user": "UPDATE auth_user SET is_superuser = TRUE",
    "read a password": "SELECT password FROM auth_user",
    "read a session": "SELECT session_key FROM django_session",
    "change a session": "UPDATE django_session SET session_key = 'x'",
    "make a member": "INSERT INTO chatbots_membership (role) VALUES ('officer')",
    "change a bucket": "UPDATE chatbots_bucket SET bucket = 'x'",
    "change a chatbot": "UPDATE chatbots_chatbot SET name = 'x'",
    "change a redaction": "UPDATE compliance_redaction SET reason = 'other'",
    "say something": "INSERT INTO conversations_message (text) VALUES ('x')",
    "read the log": f"SELECT * FROM {LOG}",
    "read a second factor": "SELECT key FROM otp_totp_totpdevice",
}


@pytest.fixture
def session() -> Iterator[psycopg.Connection[Any]]:
    """A connection that can be made one of a role, whatever it was."""
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as opened:
        yield opened
        opened.rollback()


@pytest.mark.django_db
@pytest.mark.parametrize(("role", "more"), [("web", FORBIDDEN_TO_WEB), ("worker", FORBIDDEN_TO_WORKER)])
def test_a_role_is_denied_everything_else(session, role, more) -> None:
    session.execute(f"SET SESSION AUTHORIZATION {under_roles.ROLES[role]}")
    allowed = []
    for what, sql in {**FORBIDDEN, **more}.items():
        with suppress(psycopg.errors.InsufficientPrivilege), session.transaction():
            session.execute(sql)
            allowed.append(what)
    assert allowed == []


def test_a_worker_changes_nothing_of_a_chatbot_but_its_period(chatbot, session) -> None:
    session.execute(f"SET SESSION AUTHORIZATION {under_roles.ROLES['worker']}")
    session.execute("UPDATE chatbots_chatbot SET retention_days = 90")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("UPDATE chatbots_chatbot SET public_id = gen_random_uuid()")


@pytest.fixture
def owned() -> Iterator[str]:
    """The name of a new database with an owner of its own."""
    name = f"{connection.settings_dict['NAME']}_owned"
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {name} OWNER {under_roles.OWNER}")
        yield name
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.long(reason="all migrations run, and six commands")
def test_an_owner_who_is_no_superuser_migrates_and_grants(owned: str) -> None:
    words = ["--web", under_roles.ROLES["web"], "--worker", under_roles.ROLES["worker"]]
    for command in (["migrate", "-v", "0"], ["grant_roles", *words], ["grant_roles", *words]):
        subprocess.run(manage(*command), env=worker_environment(role=under_roles.OWNER, database=owned), check=True)

    checked = manage("check", "--deploy", "--database", "default", "--tag", "database", "--fail-level", "WARNING")
    for role, code in [("web", 0), ("worker", 0), (under_roles.OWNER, 1)]:
        environment = worker_environment(role=role, database=owned)
        assert subprocess.run(checked, env=environment, check=False, capture_output=True).returncode == code


def test_no_role_can_call_a_function_of_ours(session: psycopg.Connection[Any]) -> None:
    """Trigger functions cannot be called. A callable function would need a right, and perhaps run as its owner.

    The one that counts deadlines reads no table, and runs as its caller.
    """
    found = session.execute(
        "SELECT proname, prosecdef FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace AND prorettype <> 'trigger'::regtype"
    )
    assert found.fetchall() == [("compliance_due_at", False)]
