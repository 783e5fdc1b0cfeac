"""The rights of the web server's and the workers' roles in PostgreSQL, table by table.

`manage.py grant_roles` grants exactly these and revokes all others. A third role migrates: it owns the tables, so it
may do everything, and no process that serves calls or works has it. It owns the change log too: the other roles
cannot change, empty or drop it, or switch its trigger off.

A new model needs a line in RIGHTS, a new statement perhaps one more right. The tests run as these roles, so a missing
right fails there with "permission denied for table ...". Grant a right by columns if the role must not read or write
some columns of a table. To lock rows (FOR UPDATE, FOR NO KEY UPDATE), one column that may be updated is enough.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from django.apps import apps
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from psycopg import sql

from chatbots.models import ChangeLogEntry
from common.db import execute, fetch


class Rights(NamedTuple):
    """Privileges on a table in the syntax of GRANT; empty for a role that does not use the table."""

    web: str
    worker: str


RIGHTS: Mapping[str, Rights] = {
    # The console and its commands write the configuration. A replay sets a retention period back, closes a chatbot,
    # and declares a UCI that a restore has lost.
    "chatbots.Chatbot": Rights(
        "SELECT, INSERT, UPDATE", "SELECT, UPDATE (retention_days, retention_set_at, closed_at)"
    ),
    "chatbots.Variable": Rights("SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE (was_uci, values_gone_at)"),
    "chatbots.CallbackSecret": Rights("SELECT, INSERT, UPDATE (previous_until), DELETE", "SELECT"),
    "chatbots.Bucket": Rights("SELECT, INSERT, UPDATE", "SELECT, UPDATE (last_checked_at, last_error)"),
    "chatbots.BucketCredential": Rights(
        "SELECT, INSERT, UPDATE (access_key_id, active_at, revoking_at, revoked_at, failure)",
        # For `health`: whether any was interrupted, not which key it is.
        "SELECT (id, chatbot_id, created_at, active_at, revoking_at, revoked_at)",
    ),
    "chatbots.BucketCheck": Rights("SELECT, INSERT, UPDATE, DELETE", "SELECT, UPDATE, DELETE"),
    # The console writes the settings, the workers write the outcomes of calls.
    "chatbots.Resolver": Rights(
        "SELECT, INSERT, UPDATE, DELETE",
        "SELECT, UPDATE (called_at, failing_since, last_error, last_error_at)",
    ),
    "chatbots.SilentStorage": Rights("SELECT, DELETE", "SELECT, INSERT, UPDATE, DELETE"),
    "chatbots.Membership": Rights("SELECT, INSERT, UPDATE, DELETE", "SELECT"),
    "chatbots.DigestKey": Rights("SELECT", "SELECT"),
    # Verifying a signature and signing a callback need the secret, which can never be changed. A replay revokes
    # keys.
    "chatbots.ApiKey": Rights(
        "SELECT, INSERT, UPDATE (last_used_at, rate_limit, revoked_at)", "SELECT, UPDATE (revoked_at)"
    ),
    "chatbots.RateLimitWindow": Rights("SELECT, INSERT, UPDATE", ""),
    # Append-only, even without its trigger. The canary searches for its words in `data` of the newest entries.
    "chatbots.ChangeLogEntry": Rights("SELECT, INSERT", "SELECT (id, chatbot_id, data), INSERT"),
    # The web server stores conversations and marks late data; it never erases.
    "conversations.Conversation": Rights("SELECT, INSERT, UPDATE", "SELECT, UPDATE"),
    "conversations.Message": Rights("SELECT, INSERT", "SELECT, UPDATE (kind, text), DELETE"),
    "conversations.Identity": Rights(
        "SELECT, INSERT, UPDATE (established_by)", "SELECT, INSERT, UPDATE (value, look, established_by), DELETE"
    ),
    "conversations.VariableValue": Rights("SELECT, INSERT, UPDATE", "SELECT, UPDATE (expires_at), DELETE"),
    # Another name takes the place of the former one's words.
    "conversations.NameWord": Rights("SELECT, INSERT, DELETE", "SELECT, DELETE"),
    # Intake queues.
    "conversations.IdentityLookup": Rights("SELECT, INSERT, UPDATE", "SELECT, UPDATE, DELETE"),
    "conversations.UploadedFile": Rights("SELECT, INSERT, UPDATE", "SELECT, UPDATE (upload_id, state, name), DELETE"),
    "conversations.Tombstone": Rights("SELECT", "SELECT, INSERT, UPDATE (expires_at), DELETE"),
    # A worker lists the results of look-ups, and locks the expired ones.
    "conversations.RefusedIdentity": Rights("SELECT, INSERT", "SELECT, INSERT, UPDATE (expires_at), DELETE"),
    "conversations.DailyExtract": Rights("SELECT, UPDATE", "SELECT, INSERT, UPDATE"),
    "conversations.ExtractConversation": Rights("SELECT", "SELECT, INSERT, UPDATE, DELETE"),
    # The web server files and decides, the workers carry out.
    # A worker files the retention runs, and exports again.
    "compliance.ComplianceRequest": Rights("SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE"),
    # A replay restores legal holds, and the sweep empties those that were released.
    "compliance.LegalHold": Rights(
        "SELECT, INSERT, UPDATE (review_at, reviewed_at, reviewed_by, value_encrypted, released_at, released_by, "
        "release_reason)",
        "SELECT, INSERT, UPDATE",
    ),
    "compliance.LegalHoldConversation": Rights("SELECT, INSERT", "SELECT, INSERT, UPDATE (hold_id), DELETE"),
    "compliance.RequestSubject": Rights("SELECT, INSERT", "SELECT, INSERT, DELETE"),
    "compliance.RetentionRun": Rights("SELECT, INSERT, UPDATE (previous_days)", "SELECT, INSERT, UPDATE, DELETE"),
    "compliance.Redaction": Rights("SELECT, INSERT", "SELECT, INSERT, UPDATE (message_numbers)"),
    "compliance.RepeatedExport": Rights("SELECT", "SELECT, INSERT"),
    "compliance.RequestNote": Rights("SELECT, INSERT", "SELECT, UPDATE (text)"),
    "compliance.Replay": Rights("SELECT, INSERT, UPDATE", "SELECT, UPDATE (expires_at), DELETE"),
    "compliance.Callback": Rights("SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE, DELETE"),
    "compliance.Export": Rights("SELECT, UPDATE (expires_at)", "SELECT, INSERT, UPDATE"),
    "compliance.ExportFile": Rights("SELECT", "SELECT, INSERT, UPDATE, DELETE"),
    "compliance.ExportConversation": Rights("SELECT", "SELECT, INSERT, DELETE"),
    "compliance.LeftCopy": Rights("SELECT", "SELECT, INSERT"),
    # Triggers insert into the journal; the web server closes a restored database, and never reads the ledger.
    "compliance.Service": Rights("SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE"),
    "compliance.LedgerObject": Rights("", "SELECT, INSERT, UPDATE, DELETE"),
    "compliance.JournalEntry": Rights("SELECT, INSERT", "SELECT, INSERT, UPDATE (at), DELETE"),
    "compliance.LedgerLine": Rights("", "SELECT, INSERT, UPDATE, DELETE"),
    # Ending all claims closes a restored database.
    "compliance.Claim": Rights("SELECT, DELETE", "SELECT, INSERT, UPDATE, DELETE"),
    "compliance.Heartbeat": Rights("SELECT", "SELECT, INSERT, UPDATE, DELETE"),
    "compliance.Notice": Rights("SELECT", "SELECT, INSERT, DELETE"),
    "compliance.Occurrence": Rights("SELECT", "SELECT, INSERT, UPDATE"),
    "compliance.Mailbox": Rights("SELECT", "SELECT, INSERT, UPDATE"),
    # The web role sets it up, the worker's takes the turns.
    "compliance.Canary": Rights("SELECT, INSERT, UPDATE", "SELECT"),
    "compliance.CanaryTurn": Rights("SELECT", "SELECT, INSERT, UPDATE, DELETE"),
    # Workers read staff e-mail addresses only, and remove expired rows: no password, no key of a session.
    "auth.User": Rights("SELECT, INSERT, UPDATE", "SELECT (id, email, is_active, is_staff, date_joined)"),
    # The canary searches the data of sessions for its words.
    "sessions.Session": Rights(
        "SELECT, INSERT, UPDATE, DELETE", "SELECT (expire_date, session_data), UPDATE (expire_date), DELETE"
    ),
    "otp_totp.TOTPDevice": Rights("SELECT, INSERT, UPDATE, DELETE", ""),
    "accounts.Authenticator": Rights("SELECT, INSERT, UPDATE, DELETE", ""),
    "otp_static.StaticDevice": Rights("SELECT, INSERT, UPDATE, DELETE", ""),
    "otp_static.StaticToken": Rights("SELECT, INSERT, DELETE", ""),
    # For the canary.
    "admin.LogEntry": Rights("SELECT, INSERT", "SELECT (action_time, object_repr, change_message)"),
    "accounts.LoginFailures": Rights("SELECT, INSERT, UPDATE, DELETE", "SELECT (id, ends_at), UPDATE (id), DELETE"),
    "accounts.StaffLogin": Rights("SELECT, INSERT, UPDATE (ended_at)", "SELECT (id, at), UPDATE (id), DELETE"),
    "auth.Group": Rights("", ""),
    "auth.Group_permissions": Rights("", ""),
    "auth.Permission": Rights("", ""),
    "auth.User_groups": Rights("", ""),
    "auth.User_user_permissions": Rights("", ""),
    "contenttypes.ContentType": Rights("SELECT", ""),
    # Both roles insert tasks. Schedules are not used, and are emptied.
    "django_q.OrmQ": Rights("SELECT, INSERT", "SELECT, INSERT, UPDATE, DELETE"),
    "django_q.Task": Rights("SELECT", "SELECT, INSERT, UPDATE"),
    "django_q.Schedule": Rights("", "SELECT, DELETE"),
}

# The sequences that nextval() is called for by name. On one PostgreSQL the sequences of ids go with their tables.
# Citus calls a table's sequence by name if a statement inserts into it and reads distributed tables, chatbots or
# variables. A mark reads the number of the newest conversation, and a trigger of the change log its newest id.
SEQUENCES = {
    "compliance_request_seq": Rights("USAGE", "USAGE"),
    "compliance_replay_id_seq": Rights("USAGE", ""),
    "compliance_requestsubject_id_seq": Rights("USAGE", ""),
    "chatbots_changelogentry_id_seq": Rights("USAGE, SELECT", "SELECT"),
    "conversations_identitylookup_id_seq": Rights("USAGE", ""),
    "compliance_leftcopy_id_seq": Rights("", "USAGE"),
    "conversations_conversation_id_seq": Rights("", "SELECT"),
}


def undeclared() -> Iterator[str]:
    """Yield an instruction for each table that RIGHTS lack, and for each name in RIGHTS that is no table of ours."""
    labels = {model._meta.label for model in apps.get_models(include_auto_created=True) if not model._meta.proxy}
    for label in sorted(labels - RIGHTS.keys()):
        yield (
            f"{label} has no rights in compliance/database_rights.py: add it to RIGHTS with what the web server and "
            'the workers do in its table, such as Rights("SELECT, INSERT", "SELECT, DELETE"), or "" for nothing.'
        )
    for label in sorted(RIGHTS.keys() - labels):
        yield f"{label} is declared in compliance/database_rights.py but is no model: remove it there."


class NotGranted(Exception):
    """The rights were not granted, and nothing was changed. The text contains what to do first."""


# A role that can create tables, even temporary ones, can also create functions, and hide tables behind others of the
# same name.
_OF_ALL = (
    "REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC, {both}",
    "GRANT CONNECT ON DATABASE {database} TO {both}",
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC, {both}",
    "GRANT USAGE ON SCHEMA public TO {both}",
)


def statements(*, web: str, worker: str) -> Iterator[str]:
    """Yield the SQL that gives two roles their rights, and takes all others that they and PUBLIC have."""
    both = sql.SQL(", ").join(map(sql.Identifier, (web, worker)))
    database = sql.Identifier(connection.settings_dict["NAME"])
    for text in _OF_ALL:
        yield _text(sql.SQL(text).format(database=database, both=both))
    tables = {apps.get_model(label)._meta.db_table: rights for label, rights in RIGHTS.items()}
    # Some of Django's commands check that all migrations are applied.
    tables[MigrationRecorder.Migration._meta.db_table] = Rights("SELECT", "SELECT")
    for kind, declared in (("TABLE", tables), ("SEQUENCE", SEQUENCES)):
        for name, rights in declared.items():
            what = sql.SQL(kind + " {}").format(sql.Identifier(name))
            yield _text(sql.SQL("REVOKE ALL ON {} FROM PUBLIC, {}").format(what, both))
            for role, given in ((web, rights.web), (worker, rights.worker)):
                if given:
                    yield _text(sql.SQL("GRANT " + given + " ON {} TO {}").format(what, sql.Identifier(role)))


def _text(statement: sql.Composed) -> str:
    return f"{statement.as_string()};"


def grant(*, web: str, worker: str) -> None:
    """Give two roles their rights, all or nothing. To be called as the tables' owner; raises NotGranted."""
    if web == worker:
        raise NotGranted("Web server and workers need a role each: neither needs the rights of the other.")
    with transaction.atomic():
        known = {name for (name,) in fetch("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [[web, worker]])}
        if missing := sorted({web, worker} - known):
            commands = " ".join(f"CREATE ROLE {name} LOGIN PASSWORD '...';" for name in missing)
            raise NotGranted(f"There is no such role. Make it first, as a superuser: {commands}")
        for statement in statements(web=web, worker=worker):
            execute(statement)
        for role in (web, worker):
            if found := excess(role):
                raise NotGranted(
                    f"{role} {', '.join(found)}, which this command cannot change. Take it away from the role as a "
                    "superuser; what concerns the schema or the database, its owner can: see --dry-run."
                )


# Privileges that our roles do not need, however a role got them: by attribute, membership, ownership or grant.
_EXCESS = """
SELECT may.description
  FROM pg_roles r
 CROSS JOIN pg_class c
 CROSS JOIN LATERAL (VALUES
       (r.rolsuper, 'is a superuser'),
       (r.rolcreaterole, 'may make roles (CREATEROLE)'),
       (r.rolbypassrls, 'passes row-level security by (BYPASSRLS)'),
       (r.rolreplication, 'may read everything by replication (REPLICATION)'),
       (EXISTS (SELECT FROM pg_roles g
                 WHERE g.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
                   AND pg_has_role(r.oid, g.oid, 'MEMBER')), 'may use files or programs of the server'),
       (EXISTS (SELECT FROM pg_roles g
                 WHERE g.rolname IN ('pg_read_all_data', 'pg_write_all_data')
                   AND pg_has_role(r.oid, g.oid, 'MEMBER')), 'may read or change all tables'),
       (pg_has_role(r.oid, c.relowner, 'MEMBER'), 'owns the table of the change log'),
       (has_any_column_privilege(r.oid, c.oid, 'UPDATE') OR has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE'),
        'may change or remove entries of the change log'),
       (has_table_privilege(r.oid, c.oid, 'TRIGGER'), 'may put triggers on the change log'),
       (has_schema_privilege(r.oid, c.relnamespace, 'CREATE'), 'may make tables and functions in the schema'),
       (has_database_privilege(r.oid, current_database(), 'CREATE'), 'may make schemas'),
       (has_database_privilege(r.oid, current_database(), 'TEMPORARY'), 'may make temporary tables and functions')
     ) AS may(is_so, description)
 WHERE r.rolname = coalesce(%s, current_user) AND c.oid = to_regclass(%s) AND may.is_so
"""


def excess(role: str | None = None) -> list[str]:
    """Return the rights of a role, or the present one, that neither web server nor workers need: ends of a sentence.

    For a superuser only that fact; nothing while the database has no tables.
    """
    found = [one for (one,) in fetch(_EXCESS, [role, ChangeLogEntry._meta.db_table])]
    return found[:1] if "is a superuser" in found else found
