"""Look in the database: each column of each table that this role may read, of the canary's chatbot.

Tables and materialized views come from PostgreSQL's catalogue, not from our models, so one that no code knows is
met too. Where there is a `chatbot_id` only the canary's rows are read, by an index, and of what is kept for good only
the newest, so that a turn reads as much after years; of the others only what is new, or all where rows are few.
"""

import base64
import binascii
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
from django.db import Error, connection, transaction
from psycopg import sql

from common.db import execute, fetch
from compliance.canary.api import Code, Sighting
from compliance.canary.trouble import Budget, CannotTell, Doubts, Trouble
from compliance.canary.words import Search
from compliance.models import CanaryTurn
from conversations import placement
from conversations.models.conversations import EARLIEST

# Of one table. The canary's own rows expire after some months, except in tables of which only the newest are read.
_MOST_ROWS = 200_000
# Of conversations, requests and entries of the change log. A turn has some of each.
_NEWEST = 5_000
_STATEMENT_SECONDS = 10

# Of all schemas. PostgreSQL's own begin with pg_, and tables of extensions, such as those of Citus, hold no rows of
# the service.
_TABLES = """
SELECT n.nspname, c.relname, array_agg(a.attname::text ORDER BY a.attnum),
       array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE has_column_privilege(c.oid, a.attnum, 'SELECT'))
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'm')
   AND a.attnum > 0 AND NOT a.attisdropped
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
 GROUP BY n.nspname, c.relname
 ORDER BY n.nspname, c.relname
"""

# What else makes an index of a table's serve for a chatbot: the conditions of partial ones.
_ALSO: Mapping[str, sql.Composable] = {
    "conversations_message": sql.SQL(" AND sent_at > {}").format(sql.Literal(EARLIEST)),
    "conversations_identity": sql.SQL(" AND variable_id > 0"),
    "conversations_refusedidentity": sql.SQL(" AND at > {}").format(sql.Literal(EARLIEST)),
}
# Tables that keep a row of each turn for good, or have no such index, and the column by which rows are found: of
# which kind of thing.
_THROUGH: Mapping[str, tuple[str, str]] = {
    "conversations_conversation": ("id", "conversations"),
    "compliance_compliancerequest": ("id", "requests"),
    "compliance_export": ("request_id", "requests"),
    "chatbots_changelogentry": ("id", "entries"),
    "conversations_variablevalue": ("conversation_id", "conversations"),
    "conversations_uploadedfile": ("conversation_id", "conversations"),
    "conversations_identitylookup": ("conversation_id", "conversations"),
    "conversations_extractconversation": ("conversation_id", "conversations"),
    "compliance_exportconversation": ("conversation_id", "conversations"),
    "compliance_redaction": ("conversation_id", "conversations"),
    "compliance_exportfile": ("export_id", "exports"),
    "compliance_requestnote": ("request_id", "requests"),
    "compliance_requestsubject": ("request_id", "requests"),
    "compliance_leftcopy": ("deletion_id", "requests"),
    "compliance_repeatedexport": ("redaction_id", "requests"),
    "compliance_ledgerline": ("request_id", "requests"),
}
_REQUESTS = (
    "SELECT id FROM compliance_compliancerequest WHERE chatbot_id = %(chatbot)s ORDER BY id DESC LIMIT %(newest)s"
)
# Of conversations also those that are not erased, whenever they began: a backup can have brought them back.
_THINGS: Mapping[str, Sequence[str]] = {
    "conversations": [
        """
        SELECT id FROM conversations_conversation WHERE chatbot_id = %(chatbot)s AND started_at > %(earliest)s
         ORDER BY started_at DESC, id DESC LIMIT %(newest)s
        """,
        """
        SELECT id FROM conversations_conversation WHERE chatbot_id = %(chatbot)s AND started_at > %(earliest)s
           AND deletion_request_id IS NULL ORDER BY id DESC LIMIT %(newest)s
        """,
    ],
    "requests": [_REQUESTS],
    "exports": [
        f"""
        SELECT e.id FROM ({_REQUESTS}) AS r
         CROSS JOIN LATERAL (SELECT id FROM compliance_export WHERE request_id = r.id OFFSET 0) AS e
        """  # noqa: S608  (from above)
    ],
    "entries": [
        "SELECT id FROM chatbots_changelogentry WHERE chatbot_id = %(chatbot)s ORDER BY id DESC LIMIT %(newest)s"
    ],
}

_ALL = ""
# Tables of no chatbot, and which of their rows are read: the new ones, by this condition, or all.
WITHOUT_CHATBOT: Mapping[str, str] = {
    "chatbots_digestkey": _ALL,
    "compliance_claim": _ALL,
    "compliance_heartbeat": _ALL,
    "compliance_journalentry": _ALL,
    "compliance_ledgerobject": "at >= {since}",
    "compliance_mailbox": _ALL,
    "compliance_occurrence": _ALL,
    "compliance_service": _ALL,
    "django_q_ormq": _ALL,
    "django_q_schedule": _ALL,
    "django_q_task": "started >= {since}",
    "django_session": _ALL,
    "django_admin_log": "action_time >= {since}",
    "django_content_type": _ALL,
    "django_migrations": _ALL,
    "auth_user": _ALL,
    "auth_group": _ALL,
    "auth_permission": _ALL,
    "auth_group_permissions": _ALL,
    "auth_user_groups": _ALL,
    "auth_user_user_permissions": _ALL,
    "accounts_authenticator": _ALL,
    "accounts_loginfailures": _ALL,
    "accounts_stafflogin": _ALL,
    "otp_totp_totpdevice": _ALL,
    "otp_static_staticdevice": _ALL,
    "otp_static_statictoken": _ALL,
}
# Columns that a worker need not be able to read (`compliance.database_rights`), "*" for any of the table: staff's
# names, passwords and keys, clients' credentials, numbers of ours, and words of closed lists that constraints hold.
_UNREAD: Mapping[str, str] = {
    "chatbots_changelogentry": "request_id event actor at",
    "chatbots_bucketcredential": "*",
    "chatbots_ratelimitwindow": "*",
    "django_session": "session_key",
    "django_admin_log": "id object_id action_flag content_type_id user_id",
    "django_content_type": "*",
    **{name: "*" for name in WITHOUT_CHATBOT if name.startswith(("auth_", "accounts_", "otp_"))},
}

# Before the deletion at least these hold the chatter.
_CONTROLS = {
    *("conversations_conversation.user_name", "conversations_message.text", "conversations_identity.value"),
    "conversations_variablevalue.value",
}

_DENIED, _CANCELLED = "42501", "57014"


class _Table(NamedTuple):
    schema: str
    relation: str
    columns: Sequence[str]
    readable: Sequence[str] | None

    @property
    def name(self) -> str:
        """Its name, with the schema where that is not the service's."""
        return self.relation if self.schema == "public" else f"{self.schema}.{self.relation}"

    @property
    def unread(self) -> set[str]:
        """The columns that should be readable and are not."""
        may_be_unread = _UNREAD.get(self.name, "").split()
        is_left_out = "*" in may_be_unread
        return set() if is_left_out else {*self.columns} - {*(self.readable or ())} - {*may_be_unread}


def control(search: Search, turn: CanaryTurn, *, budget: Budget) -> list[str]:
    """Return the columns that should hold the chatter before the deletion, and do not."""
    wanted = set(_CONTROLS)
    if turn.file_id is not None:
        wanted.add("conversations_uploadedfile.name")
    if turn.export_id is not None:
        wanted.add("compliance_export.key")
    seen = {sighting.where for sighting in look(search, turn, since=turn.began_at, budget=budget)}
    return sorted(wanted - seen)


def look(search: Search, turn: CanaryTurn, *, since: datetime, budget: Budget) -> Iterator[Sighting]:
    """Yield in which columns a word is, then raise CannotTell if not all could be read.

    Of some tables without a chatbot only rows since `since` are read.
    """
    found: set[str] = set()
    things: dict[str, Sequence[int | UUID]] = {}
    doubts = Doubts()
    with doubts.passing(), _transaction("connection"):
        placement.find_by_index()
        execute(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
        for name, statements in _THINGS.items():
            with doubts.passing(), _transaction(name):
                things[name] = _ids(statements, turn)
        for table in [_Table(*row) for row in fetch(_TABLES)]:
            if table.unread:
                doubts.note(CannotTell(Trouble.RIGHTS_MISSING, f"{table.name}.{min(table.unread)}"))
            if table.readable:
                with doubts.passing(), _transaction(table.name):
                    budget.check(table.name)
                    # One by one: what was found before an error counts.
                    for column in _look_in(table, search, statement_for(table, turn, things, since)):
                        found.add(column)
    for column in sorted(found):
        yield Sighting(Code.TEXT_LEFT, column)
    doubts.tell()


@contextmanager
def _transaction(where: str) -> Iterator[None]:
    """Begin a transaction, or within one a savepoint. Raises CannotTell for a database's error."""
    trouble: Trouble | None = None
    try:
        with transaction.atomic():
            yield
    except (Error, psycopg.Error) as error:
        cause = error if isinstance(error, psycopg.Error) else error.__cause__
        state = getattr(cause, "sqlstate", None)
        trouble = {_DENIED: Trouble.RIGHTS_MISSING, _CANCELLED: Trouble.TOO_LONG}.get(state or "", Trouble.BROKEN)
    # Raised outside the except block: a database's error can quote a row.
    if trouble is not None:
        raise CannotTell(trouble, where)


def _ids(statements: Sequence[str], turn: CanaryTurn) -> list[int | UUID]:
    given = {"chatbot": turn.chatbot_id, "earliest": EARLIEST, "newest": _NEWEST}
    return sorted({each for statement in statements for (each,) in fetch(statement, given)})


def _look_in(table: _Table, search: Search, statement: sql.Composed) -> Iterator[str]:
    number = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copied:
        for row in copied:
            number += 1
            if number > _MOST_ROWS:
                raise CannotTell(Trouble.TOO_MUCH, table.name)
            line = bytes(row)
            if table.name == "django_session":
                line = b"\t".join(_unpacked(cell) for cell in line.rstrip(b"\n").split(b"\t"))
            if search.is_in(line):
                cells = line.rstrip(b"\n").split(b"\t")
                at = [
                    f"{table.name}.{name}"
                    for name, cell in zip(table.readable or (), cells, strict=False)
                    if search.is_in(cell)
                ]
                yield from at or [table.name]


def statement_for(
    table: _Table, turn: CanaryTurn, things: Mapping[str, Sequence[int | UUID]], since: datetime
) -> sql.Composed:
    """Return the COPY of the rows that are read of a table. Raises CannotTell where it is not known which."""
    name = table.name
    condition: sql.Composable
    if name in _THROUGH:
        column, of = _THROUGH[name]
        condition = sql.SQL("{} = ANY({}) AND chatbot_id = {}").format(
            sql.Identifier(column), sql.Literal(list(things.get(of, ()))), sql.Literal(turn.chatbot_id)
        )
    elif "chatbot_id" in table.columns:
        condition = sql.SQL("chatbot_id = {}").format(sql.Literal(turn.chatbot_id)) + _ALSO.get(name, sql.SQL(""))
    elif name == "chatbots_chatbot":
        condition = sql.SQL("id = {}").format(sql.Literal(turn.chatbot_id))
    elif name in WITHOUT_CHATBOT:
        condition = sql.SQL(WITHOUT_CHATBOT[name] or "TRUE").format(since=sql.Literal(since))
    else:
        raise CannotTell(Trouble.TABLE_UNKNOWN, name)
    columns = sql.SQL(", ").join(map(sql.Identifier, table.readable or ()))
    return sql.SQL("COPY (SELECT {} FROM {} WHERE {} LIMIT {}) TO STDOUT").format(
        columns, sql.Identifier(table.schema, table.relation), condition, sql.Literal(_MOST_ROWS + 1)
    )


def _unpacked(cell: bytes) -> bytes:
    """Return what a session holds, of Django's `payload:time:signature`; any other cell as it is."""
    payload = cell.rpartition(b":")[0].rpartition(b":")[0]
    is_packed, payload = payload.startswith(b"."), payload.removeprefix(b".")
    try:
        data = base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))
        return cell + b" " + (zlib.decompressobj().decompress(data, 1024 * 1024) if is_packed else data)
    except (binascii.Error, zlib.error):
        return cell
