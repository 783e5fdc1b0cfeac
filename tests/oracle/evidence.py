"""The evidence at the end, read past the service: rows, objects, logs, and the calls to the receivers."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from botocore.exceptions import ClientError

from tests.oracle.caller import Caller

if TYPE_CHECKING:
    from tests.operated import Operated

# All months in which a conversation may have begun.
EVER = "from=2025-01&to=2027-12"
# Runs a statement, and returns its rows.
Read = Callable[[str, Any], list[tuple[Any, ...]]]

# Without tables that are not the service's data: sessions of users, and the queue of tasks.
TABLES = """
SELECT format('%I', c.relname)
  FROM pg_class c
 WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
   AND c.relname NOT IN ('django_migrations', 'django_content_type', 'auth_permission', 'chatbots_digestkey')
 ORDER BY 1
"""
_CONVERSATIONS = """
SELECT b.slug, c.id, c.external_id, c.deleted_at IS NOT NULL,
       (SELECT coalesce(jsonb_object_agg(m.external_id, jsonb_build_array(m.kind, m.text)), '{}')::text
          FROM conversations_message m WHERE m.conversation_id = c.id AND m.chatbot_id = c.chatbot_id),
       (SELECT coalesce(jsonb_object_agg(f.name, f.object_key) FILTER (WHERE f.state = 'stored'), '{}')::text
          FROM conversations_uploadedfile f WHERE f.conversation_id = c.id AND f.chatbot_id = c.chatbot_id),
       (SELECT coalesce(jsonb_object_agg(i.value, i.established_by), '{}')::text FROM conversations_identity i
         WHERE i.conversation_id = c.id AND i.chatbot_id = c.chatbot_id AND i.value IS NOT NULL),
       jsonb_build_object(
         'user_name', c.user_name, 'language', c.language, 'channel', c.channel, 'push', c.has_push,
         'agent_handover', c.has_agent_handover, 'score', c.score, 'csat_score', c.csat_score,
         'csat_vote', c.csat_vote, 'csat_comment', c.csat_comment, 'variables',
         (SELECT coalesce(jsonb_object_agg(v.name, x.value), '{}')
            FROM conversations_variablevalue x JOIN chatbots_variable v ON v.id = x.variable_id
           WHERE x.conversation_id = c.id AND x.chatbot_id = c.chatbot_id))::text,
       c.started_at, c.has_file_upload, c.deletion_request_id::text,
       (SELECT count(*) FROM conversations_uploadedfile f
         WHERE f.conversation_id = c.id AND f.chatbot_id = c.chatbot_id AND f.state <> 'stored'),
       (SELECT count(*) FROM conversations_refusedidentity r
         WHERE r.conversation_id = c.id AND r.chatbot_id = c.chatbot_id),
       (SELECT coalesce(string_agg(concat_ws(' ', l.state, l.last_error), ', '), '')
          FROM conversations_identitylookup l WHERE l.conversation_id = c.id AND l.chatbot_id = c.chatbot_id)
  FROM conversations_conversation c JOIN chatbots_chatbot b ON b.id = c.chatbot_id
"""
_REQUESTS = """
SELECT r.id::text, b.slug, r.kind, r.status, coalesce(r.hold_reason, ''), coalesce(r.error_code, ''),
       r.conversations, r.messages, r.files, e.key, coalesce(e.hosting, ''),
       coalesce(e.rows, 0), coalesce(e.bytes, 0), coalesce(e.sha256, ''),
       (SELECT again.removed_id::text FROM compliance_repeatedexport again WHERE again.repeat_id = r.id),
       r.received_at, coalesce(r.completed_at, r.cancelled_at, r.rejected_at),
       r.started_at IS NOT NULL, r.cutoff_at, coalesce(r.unverified_left_out, 0),
       'export_pending' = ANY(r.approved_holds), e.last_copy_since IS NOT NULL, r.continues_id::text
  FROM compliance_compliancerequest r JOIN chatbots_chatbot b ON b.id = r.chatbot_id
  LEFT JOIN compliance_export e ON e.request_id = r.id
 ORDER BY r.seq
"""
_EXTRACTS = """
SELECT b.slug, e.day::text, e.starts_at, e.ends_at, e.state, e.hosting, e.key
  FROM conversations_dailyextract e JOIN chatbots_chatbot b ON b.id = e.chatbot_id
"""
_EVENTS = """
SELECT request_id::text, event FROM chatbots_changelogentry
 WHERE event IN ('request.completed', 'request.cancelled', 'request.rejected')
"""


class ConversationRow(NamedTuple):
    """The rows of a conversation. `texts` are kind and text by a message's id, `files` keys of stored objects by a
    name, `values` the ways in which each was established, `facts` the fields of the conversation itself.

    `closed_by` is the request that erases it or has, `hidden_files` are rows of files that are not stored, or not any
    more, `refused` identities that were refused, `lookup` the state and error of its look-up.
    """

    bot: str
    number: int
    id: str | None
    is_deleted: bool
    texts: dict[str, tuple[str, str]]
    files: dict[str, str]
    values: dict[str, str]
    facts: dict[str, Any]
    began: datetime
    has_file_upload: bool
    closed_by: str | None = None
    hidden_files: int = 0
    refused: int = 0
    lookup: str = ""

    @property
    def left(self) -> list[str]:
        """Its remaining data besides the conversation's own row, without hidden files."""
        parts = {"messages": self.texts, "files": self.files, "values": self.values}
        parts |= {"variables": self.facts["variables"], "refused values": self.refused, "its look-up": self.lookup}
        return [name for name, rows in parts.items() if rows]

    @property
    def is_wordless(self) -> bool:
        """Whether it is erased except for files, which are hidden until the storage removes them."""
        names = (self.id, self.facts["user_name"], self.facts["csat_comment"])
        return self.is_deleted and not any(names) and not self.left

    @property
    def is_empty(self) -> bool:
        return self.is_wordless and not self.hidden_files


class RequestRow(NamedTuple):
    """The rows of a request and of its export. `repeats` is the export in whose place a redaction has filed this,
    `continues` the deletion that has left out the conversations under a legal hold.

    `left_out` counts the conversations that an export did not hold, since their chatters were not verified.
    """

    id: str
    bot: str
    kind: str
    status: str
    hold_reason: str
    error_code: str
    conversations: int
    messages: int
    files: int
    key: str | None
    hosting: str
    rows: int
    bytes: int
    sha256: str
    repeats: str | None
    received_at: datetime
    ended_at: datetime | None
    has_begun: bool = False
    cutoff_at: datetime | None = None
    left_out: int = 0
    ignores_exports: bool = False
    is_last_copy: bool = False
    continues: str | None = None

    @property
    def completed_at(self) -> datetime | None:
        return self.ended_at if self.status == "completed" else None


class ExtractRow(NamedTuple):
    bot: str
    day: str
    starts_at: datetime
    ends_at: datetime
    state: str
    hosting: str
    key: str | None


class Count(NamedTuple):
    """The number of conversations that began in a month through a channel, and of the deleted ones among them."""

    stored: int
    deleted: int


# By month and channel.
Usage = dict[tuple[str, str], Count]


class ObjectVersion(NamedTuple):
    """One version of an object. A delete marker has no body."""

    key: str
    version: str
    body: bytes | None
    is_latest: bool = True


@dataclass(frozen=True)
class Objects:
    """Every version of every object of a bucket, and the keys of open multipart uploads of which parts were sent.

    Without a part one may be left where the call that opens it reaches the storage after it was given up (ADR 0005).
    """

    versions: list[ObjectVersion]
    uploads: list[str]


# By key, version and tag.
Bodies = dict[tuple[str, str, str], bytes]


def objects_in(bucket: str, client: Any) -> Objects:
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return Objects(
        list(versions_in(bucket, client)), [each["Key"] for each in uploads if _has_parts(bucket, each, client)]
    )


def versions_in(
    bucket: str, client: Any, *, known: Bodies | None = None, but: str | None = None
) -> Iterator[ObjectVersion]:
    """Yield all versions, but those whose keys begin with `but`. `known` remembers their bodies for the next time."""
    known = {} if known is None else known
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for each in page.get("Versions", []):
            if but is not None and each["Key"].startswith(but):
                continue
            key, version = each["Key"], each["VersionId"]
            body = known.get((key, version, each["ETag"])) or _body(bucket, key, version, client)
            if body is not None:  # else it was removed since it was listed
                known[key, version, each["ETag"]] = body
                yield ObjectVersion(key, version, body, each["IsLatest"])
        for each in page.get("DeleteMarkers", []):
            yield ObjectVersion(each["Key"], each["VersionId"], None, each["IsLatest"])


def _body(bucket: str, key: str, version: str, client: Any) -> bytes | None:
    try:
        raw: bytes = client.get_object(Bucket=bucket, Key=key, VersionId=version)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"NoSuchKey", "NoSuchVersion"}:
            raise
        return None
    return raw


def _has_parts(bucket: str, upload: dict[str, Any], client: Any) -> bool:
    return bool(client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts"))


@dataclass
class Evidence:
    """`tables` are the lines of a dump, each with its table. `taken` are the ids of callbacks that receivers took,
    by request and event. `usage` is by chatbot, month and channel."""

    conversations: dict[int, ConversationRow] = field(default_factory=dict)
    requests: dict[str, RequestRow] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    tables: list[tuple[str, str]] = field(default_factory=list)
    objects: Objects = field(default_factory=lambda: Objects([], []))
    client_objects: Objects = field(default_factory=lambda: Objects([], []))
    logs: dict[str, str] = field(default_factory=dict)
    extracts: list[ExtractRow] = field(default_factory=list)
    taken: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    usage: dict[str, Usage] = field(default_factory=dict)


def gather(
    site: "Operated",
    callers: Mapping[str, Caller],
    *,
    taken: Mapping[str, Mapping[str, set[str]]] | None = None,
    client_bucket: str = "",
) -> Evidence:
    """Read everything. Nothing may go on meanwhile. `callers` are of the chatbots whose usage is asked for."""
    with site.database.connect() as connection:
        found = of_database(connection)
    found.objects, found.logs = site.objects(), site.logs()
    found.client_objects = site.objects(client_bucket) if client_bucket else Objects([], [])
    found.taken = {request: dict(events) for request, events in (taken or {}).items()}
    for bot, caller in callers.items():
        found.usage[bot] = usage_of(caller.get("usage of all months", f"usage?{EVER}").body)
    return found


def of_database(connection: psycopg.Connection[Any]) -> Evidence:
    """Return the evidence of the rows only."""

    def read(statement: str, values: Any) -> list[tuple[Any, ...]]:
        return connection.execute(statement, values).fetchall()

    return Evidence(
        conversations=conversations(read),
        requests=requests(read),
        events=[(request, event) for request, event in read(_EVENTS, ())],
        tables=lines(connection),
        extracts=[ExtractRow(*row) for row in read(_EXTRACTS, ())],
    )


def conversations(read: Read, numbers: Iterable[int] | None = None) -> dict[int, ConversationRow]:
    if numbers is None:
        rows = read(_CONVERSATIONS, ())
    else:
        rows = read(f"{_CONVERSATIONS} WHERE c.id = ANY(%s)", [list(numbers)])
    return {row[1]: _stored(row) for row in rows}


def requests(read: Read) -> dict[str, RequestRow]:
    return {row[0]: RequestRow(*row) for row in read(_REQUESTS, ())}


def _stored(row: tuple[Any, ...]) -> ConversationRow:
    bot, number, name, is_deleted, texts, files, values, facts, *others = row
    found = {message: (kind, text) for message, (kind, text) in json.loads(texts).items()}
    read = (json.loads(one) for one in (files, values, facts))
    return ConversationRow(bot, number, name, is_deleted, found, *read, *others)


def lines(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return the rows of all tables as text, each with its table."""
    found = []
    with connection.cursor() as cursor:
        for (table,) in cursor.execute(TABLES).fetchall():
            with cursor.copy(f"COPY {table} TO STDOUT") as copied:
                found += [(table, line) for line in b"".join(copied).decode().splitlines()]
    return found


def usage_of(shown: Mapping[str, Any]) -> Usage:
    return {
        (month["month"], one["channel"]): Count(one["conversations"], one["deleted"])
        for month in shown["months"]
        for one in month["channels"]
    }
