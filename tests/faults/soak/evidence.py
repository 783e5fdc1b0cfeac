"""What is there at the end, read past the service: rows, objects, logs, and what the receivers got."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.objects import Objects
from tests.faults.site import Site
from tests.faults.soak.caller import Caller
from tests.faults.soak.receivers import Receivers

_TALKS = """
SELECT b.slug, c.id, c.external_id, c.deleted_at IS NOT NULL,
       (SELECT coalesce(jsonb_object_agg(m.external_id, jsonb_build_array(m.kind, m.text)), '{}')::text
          FROM conversations_message m WHERE m.conversation_id = c.id AND m.chatbot_id = c.chatbot_id),
       (SELECT coalesce(jsonb_agg(f.name), '[]')::text FROM conversations_uploadedfile f
         WHERE f.conversation_id = c.id AND f.chatbot_id = c.chatbot_id AND f.state = 'stored'),
       (SELECT coalesce(jsonb_agg(i.value), '[]')::text FROM conversations_identity i
         WHERE i.conversation_id = c.id AND i.chatbot_id = c.chatbot_id AND i.value IS NOT NULL)
  FROM conversations_conversation c JOIN chatbots_chatbot b ON b.id = c.chatbot_id
"""
_REQUESTS = """
SELECT r.id::text, b.slug, r.kind, r.status, coalesce(r.hold_reason, ''), coalesce(r.error_code, ''),
       r.conversations, r.messages, r.files, e.key, coalesce(e.hosting, ''), e.finished_at::text,
       EXISTS (SELECT FROM compliance_repeatedexport again WHERE again.repeat_id = r.id)
  FROM compliance_compliancerequest r JOIN chatbots_chatbot b ON b.id = r.chatbot_id
  LEFT JOIN compliance_export e ON e.request_id = r.id
"""
_CALLBACKS = "SELECT request_id::text, status, state FROM compliance_callback"
_EVENTS = """
SELECT request_id::text, event FROM chatbots_changelogentry
 WHERE event IN ('request.completed', 'request.cancelled', 'request.rejected')
"""
_LOOKUPS = "SELECT conversation_id, state FROM conversations_identitylookup"


class Stored(NamedTuple):
    """The rows of a conversation. `texts` are kind and text by a message's id."""

    bot: str
    number: int
    id: str | None
    is_deleted: bool
    texts: dict[str, tuple[str, str]]
    files: list[str]
    values: list[str]


class Request(NamedTuple):
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
    finished_at: str | None
    is_repeat: bool


@dataclass
class Evidence:
    """`tables` are the lines of a dump, each with its table. `taken` are the ids of callbacks that receivers took,
    by request and event. `usage` is by chatbot: conversations, and how many of them are deleted."""

    talks: dict[int, Stored] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    tables: list[tuple[str, str]] = field(default_factory=list)
    objects: Objects = field(default_factory=lambda: Objects([], []))
    client_objects: Objects = field(default_factory=lambda: Objects([], []))
    logs: dict[str, str] = field(default_factory=dict)
    callbacks: list[tuple[str, str, str]] = field(default_factory=list)
    taken: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    lookups: dict[int, str] = field(default_factory=dict)
    usage: dict[str, tuple[int, int]] = field(default_factory=dict)


def gather(site: Site, callers: dict[str, Caller], receivers: Receivers, client_bucket: str) -> Evidence:
    """Read everything. Nothing may go on meanwhile."""
    return Evidence(
        talks={row[1]: _stored(row) for row in site.sql(_TALKS)},
        requests={row[0]: Request(*row) for row in site.sql(_REQUESTS)},
        events=[(request, event) for request, event in site.sql(_EVENTS)],
        tables=list(_lines(site.dump())),
        objects=site.objects(),
        client_objects=site.objects(client_bucket),
        logs=site.logs(),
        callbacks=[(request, status, state) for request, status, state in site.sql(_CALLBACKS)],
        taken={request: dict(events) for request, events in receivers.taken.items()},
        lookups=dict(site.sql(_LOOKUPS)),
        usage={bot: _usage(caller) for bot, caller in callers.items()},
    )


def _stored(row: tuple[object, ...]) -> Stored:
    bot, number, name, is_deleted, texts, files, values = row
    assert isinstance(bot, str)
    assert isinstance(number, int)
    found = {message: (kind, text) for message, (kind, text) in json.loads(str(texts)).items()}
    shown = None if name is None else str(name)
    return Stored(bot, number, shown, bool(is_deleted), found, json.loads(str(files)), json.loads(str(values)))


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


def _usage(caller: Caller) -> tuple[int, int]:
    months = caller.get("usage", "usage?from=2025-01&to=2027-12").body["months"]
    return sum(one["conversations"] for one in months), sum(one["deleted"] for one in months)
