"""What is there at the end, read past the service: rows, objects, logs, and what the receivers got."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tests.operated import Operated
from tests.oracle.caller import Caller
from tests.oracle.objects import Objects

_CONVERSATIONS = """
SELECT b.slug, c.id, c.external_id, c.deleted_at IS NOT NULL,
       (SELECT coalesce(jsonb_object_agg(m.external_id, jsonb_build_array(m.kind, m.text)), '{}')::text
          FROM conversations_message m WHERE m.conversation_id = c.id AND m.chatbot_id = c.chatbot_id),
       (SELECT coalesce(jsonb_object_agg(f.name, f.object_key), '{}')::text
          FROM conversations_uploadedfile f
         WHERE f.conversation_id = c.id AND f.chatbot_id = c.chatbot_id AND f.state = 'stored'),
       (SELECT coalesce(jsonb_agg(i.value), '[]')::text FROM conversations_identity i
         WHERE i.conversation_id = c.id AND i.chatbot_id = c.chatbot_id AND i.value IS NOT NULL),
       jsonb_build_object(
         'user_name', c.user_name, 'language', c.language, 'channel', c.channel, 'push', c.has_push,
         'agent_handover', c.has_agent_handover, 'score', c.score, 'csat_score', c.csat_score,
         'csat_vote', c.csat_vote, 'csat_comment', c.csat_comment, 'variables',
         (SELECT coalesce(jsonb_object_agg(v.name, x.value), '{}')
            FROM conversations_variablevalue x JOIN chatbots_variable v ON v.id = x.variable_id
           WHERE x.conversation_id = c.id AND x.chatbot_id = c.chatbot_id))::text,
       c.started_at, c.has_file_upload
  FROM conversations_conversation c JOIN chatbots_chatbot b ON b.id = c.chatbot_id
"""
_REQUESTS = """
SELECT r.id::text, b.slug, r.kind, r.status, coalesce(r.hold_reason, ''), coalesce(r.error_code, ''),
       r.conversations, r.messages, r.files, e.key, coalesce(e.hosting, ''),
       coalesce(e.rows, 0), coalesce(e.bytes, 0), coalesce(e.sha256, ''),
       (SELECT again.removed_id::text FROM compliance_repeatedexport again WHERE again.repeat_id = r.id),
       r.received_at, coalesce(r.completed_at, r.cancelled_at, r.rejected_at)
  FROM compliance_compliancerequest r JOIN chatbots_chatbot b ON b.id = r.chatbot_id
  LEFT JOIN compliance_export e ON e.request_id = r.id
"""
_EXTRACTS = """
SELECT b.slug, e.day::text, e.starts_at, e.ends_at, e.state, e.hosting, e.key
  FROM conversations_dailyextract e JOIN chatbots_chatbot b ON b.id = e.chatbot_id
"""
_EVENTS = """
SELECT request_id::text, event FROM chatbots_changelogentry
 WHERE event IN ('request.completed', 'request.cancelled', 'request.rejected')
"""
_LOOKUPS = "SELECT conversation_id, state FROM conversations_identitylookup"


class ConversationRow(NamedTuple):
    """The rows of a conversation. `texts` are kind and text by a message's id, `files` keys of objects by a name,
    `facts` what is said of the conversation itself."""

    bot: str
    number: int
    id: str | None
    is_deleted: bool
    texts: dict[str, tuple[str, str]]
    files: dict[str, str]
    values: list[str]
    facts: dict[str, Any]
    began: datetime
    has_file_upload: bool


class RequestRow(NamedTuple):
    """The rows of a request and of its export. `repeats` is the export in whose place a redaction has filed this."""

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


class ExtractRow(NamedTuple):
    """The row of a daily extract."""

    bot: str
    day: str
    starts_at: datetime
    ends_at: datetime
    state: str
    hosting: str
    key: str | None


class Count(NamedTuple):
    """How many conversations began in a month through a channel, and how many of them are deleted."""

    stored: int
    deleted: int


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
    lookups: dict[int, str] = field(default_factory=dict)
    usage: dict[str, dict[tuple[str, str], Count]] = field(default_factory=dict)


def gather(
    site: Operated,
    callers: Mapping[str, Caller],
    *,
    taken: Mapping[str, Mapping[str, set[str]]] | None = None,
    client_bucket: str = "",
) -> Evidence:
    """Read everything. Nothing may go on meanwhile. `callers` are of the chatbots whose usage is asked for."""
    return Evidence(
        conversations={row[1]: _stored(row) for row in site.sql(_CONVERSATIONS)},
        requests={row[0]: RequestRow(*row) for row in site.sql(_REQUESTS)},
        events=[(request, event) for request, event in site.sql(_EVENTS)],
        tables=list(_lines(site.dump())),
        objects=site.objects(),
        client_objects=site.objects(client_bucket) if client_bucket else Objects([], []),
        logs=site.logs(),
        extracts=[ExtractRow(*row) for row in site.sql(_EXTRACTS)],
        taken={request: dict(events) for request, events in (taken or {}).items()},
        lookups=dict(site.sql(_LOOKUPS)),
        usage={bot: _usage(caller) for bot, caller in callers.items()},
    )


def _stored(row: tuple[Any, ...]) -> ConversationRow:
    bot, number, name, is_deleted, texts, files, values, facts, began, has_file_upload = row
    found = {message: (kind, text) for message, (kind, text) in json.loads(texts).items()}
    return ConversationRow(
        bot,
        number,
        name,
        is_deleted,
        found,
        json.loads(files),
        json.loads(values),
        json.loads(facts),
        began,
        has_file_upload,
    )


def _lines(dump: str) -> Iterator[tuple[str, str]]:
    """Yield the rows of a dump, each with its table."""
    table = ""
    for line in dump.splitlines():
        if line.startswith("COPY "):
            table = line.split()[1].removeprefix("public.")
        elif line == "\\.":
            table = ""
        elif table:
            yield table, line


def _usage(caller: Caller) -> dict[tuple[str, str], Count]:
    months = caller.get("usage of all months", "usage?from=2025-01&to=2027-12").body["months"]
    return {
        (month["month"], one["channel"]): Count(one["conversations"], one["deleted"])
        for month in months
        for one in month["channels"]
    }
