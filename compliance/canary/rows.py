"""Search the database: each column of each table that this role may read, for rows of the canary's chatbot.

Tables and materialized views come from PostgreSQL's catalogue, not from our models, so a table without a model is
found too. In tables with a `chatbot_id` only the canary's rows are read, by an index. Of rows that are kept for good
only the newest are read, so that a turn reads as much after years. Of other tables only new rows are read, or all
rows if there are few.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction

from common.db import execute, fetch
from compliance.canary.errors import CALL_SECONDS, Inconclusive, Trouble, check_time
from compliance.canary.words import HEADS, Search
from compliance.canary.work import Work
from compliance.models.canary import Left, Place
from conversations import placement
from conversations.models.conversations import EARLIEST

# The number of newest conversations, requests and entries of the change log. A turn has some of each.
_NEWEST = 5_000

# Tables of all schemas, with the schema in the name if it is not the service's. PostgreSQL's own begin with pg_, and
# tables of extensions, such as those of Citus, hold no rows of the service.
_TABLES = """
SELECT CASE n.nspname WHEN 'public' THEN c.relname ELSE n.nspname || '.' || c.relname END,
       format('%I.%I', n.nspname, c.relname), array_agg(a.attname::text),
       coalesce(array_agg(a.attname::text) FILTER (WHERE has_column_privilege(c.oid, a.attnum, 'SELECT')), '{}'),
       string_agg(quote_ident(a.attname), ', ') FILTER (WHERE has_column_privilege(c.oid, a.attnum, 'SELECT'))
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'm')
   AND a.attnum > 0 AND NOT a.attisdropped
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
 GROUP BY n.nspname, c.relname
 ORDER BY n.nspname, c.relname
"""
_ROWS = "SELECT to_jsonb(r) FROM (SELECT {columns} FROM {table} WHERE {condition}) AS r"
_WITH_WORD = " WHERE r::text ~* %(heads)s"

# The rows to read of tables that keep a row of each turn for good. They include all conversations that are not
# erased: a backup can have brought them back.
_NEWEST_OF = {
    "conversation": """
        (SELECT id FROM conversations_conversation WHERE chatbot_id = %(chatbot)s AND started_at > %(earliest)s
          ORDER BY started_at DESC, id DESC LIMIT %(newest)s)
         UNION
        (SELECT id FROM conversations_conversation WHERE chatbot_id = %(chatbot)s AND started_at > %(earliest)s
            AND deletion_request_id IS NULL ORDER BY id DESC LIMIT %(newest)s)
        """,
    "request": """
        SELECT id FROM compliance_compliancerequest WHERE chatbot_id = %(chatbot)s ORDER BY id DESC LIMIT %(newest)s
        """,
    "export": "SELECT id FROM compliance_export WHERE chatbot_id = %(chatbot)s AND request_id = ANY(%(request)s)",
}
# Columns that refer to one of these, in tables of the service. The first one of a table finds its rows.
_NAMES = {
    "conversation_id": "conversation",
    **dict.fromkeys(("request_id", "deletion_id", "redaction_id"), "request"),
    "export_id": "export",
}
_CONDITIONS = {
    "conversations_conversation": "chatbot_id = %(chatbot)s AND id = ANY(%(conversation)s)",
    "compliance_compliancerequest": "chatbot_id = %(chatbot)s AND id = ANY(%(request)s)",
    "chatbots_changelogentry": "chatbot_id = %(chatbot)s ORDER BY id DESC LIMIT %(newest)s",
    "compliance_canaryturn": "chatbot_id = %(chatbot)s",
    "chatbots_chatbot": "id = %(chatbot)s",
    # Tables without a chatbot, and with many rows.
    "compliance_ledgerobject": "at >= %(since)s",
    "django_q_task": "started >= %(since)s",
    "django_admin_log": "action_time >= %(since)s",
}

# Columns that a worker need not be able to read (`compliance.database_rights`): staff's names, passwords and keys,
# clients' credentials, numbers of ours, and words of closed lists that constraints hold.
_UNREAD_TABLES = ("auth_", "accounts_", "otp_", "django_content_type", "chatbots_bucketcred", "chatbots_ratelimit")
_UNREAD = {
    "chatbots_changelogentry": {"request_id", "event", "actor", "at"},
    "django_session": {"session_key"},
    "django_admin_log": {"id", "object_id", "action_flag", "content_type_id", "user_id"},
}


class Table(NamedTuple):
    name: str
    quoted: str
    columns: list[str]
    readable: list[str]
    quoted_columns: str | None

    @property
    def unread(self) -> set[str]:
        """The columns that should be readable and are not."""
        unread = {*self.columns} - {*self.readable} - _UNREAD.get(self.name, set())
        return set() if self.is_ours and self.name.startswith(_UNREAD_TABLES) else unread

    @property
    def is_ours(self) -> bool:
        return self.name in _known_tables()


def scan(work: Work) -> None:
    """Report the columns with a word. In some tables without a chatbot only new rows are read."""
    with work.capture_failure("newest rows"):
        given = parameters(work)
        for table in tables():
            with work.capture_failure(table.name):
                for row in _fetch(statement_for(table), given) if table.readable else ():
                    for column in _columns_with_word(table, work.search, row[0]):
                        work.add_finding(Place.ROWS, Left.TEXT_LEFT, column)
            if table.unread:
                work.add_failure(Inconclusive(Trouble.RIGHTS_MISSING, f"{table.name}.{min(table.unread)}"))


def tables() -> list[Table]:
    return [Table(*row) for row in _fetch(_TABLES)]


def parameters(work: Work) -> dict[str, Any]:
    """Return the parameters of the statements."""
    given = {
        "chatbot": work.turn.chatbot_id,
        "since": work.since,
        "heads": HEADS,
        "earliest": EARLIEST,
        "newest": _NEWEST,
    }
    for name, statement in _NEWEST_OF.items():
        given[name] = [one for (one,) in _fetch(statement, given)]
    return given


def statement_for(table: Table) -> str:
    """Return the query for rows that may have a word, as JSON. Raises Inconclusive for an unknown kind of table."""
    name, is_ours = table.name, table.is_ours
    key = next((key for key in _NAMES if is_ours and key in table.columns), "")
    condition = _CONDITIONS.get(name, "TRUE")
    if name not in _CONDITIONS and "chatbot_id" in table.columns:
        condition = "chatbot_id = %(chatbot)s" + (f" AND {key} = ANY(%({_NAMES[key]})s)" if key else "")
    elif not is_ours:
        raise Inconclusive(Trouble.TABLE_UNKNOWN, name)
    columns, quoted = (one.replace("%", "%%") for one in (table.quoted_columns or "", table.quoted))
    # The data of sessions is packed, so all of them are read.
    may_have_word = "" if name == "django_session" else _WITH_WORD
    return _ROWS.format(columns=columns, table=quoted, condition=condition) + may_have_word


def _known_tables() -> set[str]:
    models = apps.get_models(include_auto_created=True)
    return {model._meta.db_table for model in models} | {"django_migrations"}


def _fetch(statement: str, given: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Return all rows of a statement. Raises Inconclusive, DatabaseError."""
    check_time("database")
    with transaction.atomic():
        placement.find_by_index()
        execute(f"SET LOCAL statement_timeout = '{CALL_SECONDS}s'")
        return fetch(statement, given)


def _columns_with_word(table: Table, search: Search, row: str) -> Iterator[str]:
    for name, value in json.loads(row).items():
        shown = [value, SessionStore().decode(value)] if name == "session_data" else value
        if search.is_in_text(json.dumps(shown)):
            yield f"{table.name}.{name}"
