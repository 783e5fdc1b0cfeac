"""Store the requests of a call, its keys, and the change-log entries, by one statement.

One round trip to the database, and no more waiting than necessary: of two calls with one key, the later waits at the
unique index of Replay until the first has ended. If that one committed, the later stores nothing; if it rolled back,
the later stores its own.

The statement also checks facts that its caller may have cached: that each variable is still the same one and is or
was the UCI, and that exports have a bucket. It reads the chatbot's rule for deadlines and its time zone itself. So
cached facts are never relied on.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection
from psycopg import sql

from chatbots import changelog
from common.db import as_json, fetch
from compliance.deadlines import due_at_sql
from compliance.models import ComplianceRequest, RequestSubject
from compliance.requests.idempotency import Answer, Key, ReplayKey
from compliance.work.sql import ids_naming

Kind = ComplianceRequest.Kind

_GIVEN = (
    *("id", "chatbot_id", "kind", "origin", "filed_by", "variable_id", "uci_value", "uci_digest"),
    "named_conversations",
    *("reference", "callback_url", "requested_at", "erase_exports", "include_shared", "include_files"),
    *("csv_dialect", "formats", "archive"),
)
_KEY_TYPES = {"place": "int", "digest": "bytea", "request_id": "uuid", "existing": "bool", "kept": "float8"}
_FEW = 2
_EMPTY: tuple[Any, ...] = (None, "", False)
_EVENT = "request.accepted"
_NOW = "statement_timestamp()"
# By the database's clock; null without a time.
_NOT_BEFORE = f"{_NOW} + make_interval(secs => %s)"
_COUNTED = ("not_before", "due_at")

# All or nothing: no change-log entry without its request, and no request unless all fit and each key was new. `seq`
# is drawn in the order of the places. A key whose row has not expired is unchanged, and returns no row.
_STORE = """
WITH fits AS MATERIALIZED (
    SELECT given.*, b.deadline, b.timezone
      FROM {given} JOIN chatbots_chatbot b ON b.id = given.chatbot_id
     WHERE {fits}
), remembered AS (
    INSERT INTO compliance_replay (chatbot_id, path, digest, body_digest, request_id, existing, expires_at)
    SELECT %s, %s, key.digest, %s, key.request_id, key.existing,
           statement_timestamp() + make_interval(secs => key.kept)
      FROM {key} WHERE (SELECT count(*) FROM fits) = %s
     ORDER BY key.place
        ON CONFLICT (chatbot_id, path, digest) DO UPDATE
       SET body_digest = excluded.body_digest, request_id = excluded.request_id, existing = excluded.existing,
           expires_at = excluded.expires_at
     WHERE compliance_replay.expires_at <= statement_timestamp()
    RETURNING id
), filed AS (
    INSERT INTO compliance_compliancerequest ({columns})
    SELECT {values} FROM fits
     WHERE (SELECT count(*) FROM {last}) = %s
     ORDER BY fits.place
    RETURNING {returned}
){named}, logged AS (
    INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, data)
    SELECT chatbot_id, id, '{event}', filed_by, data FROM fits WHERE EXISTS (SELECT FROM filed) ORDER BY place
)
SELECT (SELECT count(*) FROM remembered), filed.* FROM (SELECT) AS always LEFT JOIN filed ON TRUE
"""
_NAMED = """, named AS (
    INSERT INTO compliance_requestsubject (request_id, chatbot_id, digest)
    SELECT id, chatbot_id, unnest(conversation_digests) FROM fits WHERE EXISTS (SELECT FROM filed) ORDER BY place
)"""
# OFFSET 0 keeps PostgreSQL at one look-up for each request.
_HAS_UCI = """(given.variable_id IS NULL OR EXISTS (
    SELECT FROM chatbots_variable
     WHERE id = given.variable_id AND chatbot_id = given.chatbot_id AND name = given.uci_key
       AND public_id = given.uci_public_id AND (is_uci OR was_uci) OFFSET 0))"""
_HAS_BUCKET = """(given.kind <> 'export' OR EXISTS (
    SELECT FROM chatbots_bucket WHERE chatbot_id = given.chatbot_id OFFSET 0))"""
# The caller then checks whether that export is an equal one (`equal_exports`).
_NONE_WAITS = """(NOT given.unless_one_waits OR NOT EXISTS (
    SELECT FROM compliance_compliancerequest
     WHERE {same} AND kind = 'export' AND status = 'accepted' AND claim_id IS NULL OFFSET 0))"""
_NONE_WAITS_BY_UCI = _NONE_WAITS.format(same="variable_id = given.variable_id AND uci_digest = given.uci_digest")
_NONE_WAITS_BY_CONVERSATIONS = _NONE_WAITS.format(same=f"id = ANY({ids_naming('given.conversation_digests')})")


def store(
    requests: Sequence[ComplianceRequest],
    *,
    grace: timedelta | None,
    replay: ReplayKey | None,
    keys: Sequence[tuple[Key, Answer]],
    unless_one_waits: Collection[UUID] = (),
) -> bool:
    """Store unsaved requests of one chatbot, and fill in what the database gave them. They are queued in this order.

    `keys` are the keys of the call that are not stored yet, with their answers. Return False, and store no request,
    if a variable does not fit, exports have no bucket, one of the keys has its answer already, or an export waits for
    the same subject as one in `unless_one_waits`. Some of several keys may be stored then: the caller rolls back.
    Only the fields of a request in `_GIVEN` may differ from their defaults.
    """
    rows = [_row(place, one, one.pk in unless_one_waits) for place, one in enumerate(requests, start=1)]
    types = {name: kind for name, kind in _column_types().items() if any(row[name] not in _EMPTY for row in rows)}
    key_rows = [
        {
            "place": place,
            "digest": one.digest,
            "request_id": answer.request.pk,
            "existing": answer.existing,
            "kept": one.kept.total_seconds(),
        }
        for place, (one, answer) in enumerate(keys)
    ]
    given, given_values = _source("given", types or _column_types(), rows)
    key, key_values = _source("key", _KEY_TYPES, key_rows)
    has_exports = any(one.kind == Kind.EXPORT for one in requests)
    statement = _statement(given, tuple(types), key, has_exports=has_exports, has_keys=bool(keys))
    values = [
        *given_values,
        *((replay.chatbot.pk, replay.path, replay.body_digest) if replay else (None, "", b"")),
        *key_values,
        len(requests),
        grace.total_seconds() if grace else None,
        len(keys) if keys else len(requests),
    ]
    found = fetch(statement, values)
    stored = {request_id: returned for _, request_id, *returned in found if request_id}
    is_stored = found[0][0] == len(keys) and len(stored) == len(requests)
    if is_stored:
        for request in requests:
            _take_over(request, stored[request.pk])
    return is_stored


def store_subjects(requests: Iterable[ComplianceRequest]) -> None:
    """Store the digests of the requests' conversations, in the transaction that stores the requests."""
    RequestSubject.objects.bulk_create(
        RequestSubject(request_id=one.pk, chatbot_id=one.chatbot_id, digest=digest)
        for one in requests
        for digest in one.given_digests
    )


def _row(place: int, request: ComplianceRequest, unless_one_waits: bool) -> dict[str, Any]:
    """Return the values of a request by their columns; see `_column_types`."""
    entry = changelog.entry(
        _EVENT,
        chatbot_id=request.chatbot_id,
        request_id=request.pk,
        actor=request.filed_by,
        data={"kind": str(request.kind), "origin": str(request.origin)},
    )
    row = {name: getattr(request, name) for name in _GIVEN}
    row |= {"place": place, "data": entry.data, "unless_one_waits": unless_one_waits}
    row["conversation_digests"] = list(request.given_digests) or None
    uci = request.variable
    return row | {"uci_key": uci and uci.name, "uci_public_id": uci and uci.public_id}


def _source(name: str, types: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[Any]]:
    """Return rows as an item of FROM, and its parameters: constants if they are few, which costs less, else JSON."""
    if 1 <= len(rows) <= _FEW:
        constants = ", ".join(f"%s::{kind}" for kind in types.values())
        values = ", ".join([f"({constants})"] * len(rows))
        return f"(VALUES {values}) AS {name}({', '.join(types)})", [
            _constant(row[column]) for row in rows for column in types
        ]
    definitions = ", ".join(f"{column} {kind}" for column, kind in types.items())
    document = [{column: as_json(row[column]) for column in types} for row in rows]
    return f"jsonb_to_recordset(%s::jsonb) AS {name}({definitions})", [json.dumps(document)]


def _constant(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


def _take_over(request: ComplianceRequest, given: Sequence[Any]) -> None:
    for name, value in zip(_returned(), given, strict=True):
        setattr(request, name, value)
    request._state.adding, request._state.db = False, connection.alias
    # No worker can have begun an export that was filed just now. This saves the reader a query.
    ComplianceRequest._meta.get_field("export").set_cached_value(request, None)


@cache
def _column_types() -> dict[str, str]:
    """Return the types of the columns of `given`: the stored ones, and others that the statement needs."""
    fields = {field.attname: field for field in ComplianceRequest._meta.concrete_fields}
    # Without their lengths: a cast to `varchar(64)` would cut a text that is too long, which the column refuses.
    types = {name: str(fields[name].rel_db_type(connection)).partition("(")[0] for name in _GIVEN}
    types |= {"place": "int", "data": "jsonb", "unless_one_waits": "bool", "conversation_digests": "bytea[]"}
    return types | {"uci_key": "text", "uci_public_id": "uuid"}


@cache
def _statement(given: str, columns: tuple[str, ...], key: str, *, has_exports: bool, has_keys: bool) -> str:
    """Return the statement, with the values that are constant as literals, and only the necessary checks."""
    stored = [name for name in _GIVEN if name in columns]
    defaults = {
        field.attname: sql.Literal(field.get_db_prep_save(field.get_default(), connection)).as_string()
        for field in ComplianceRequest._meta.concrete_fields
        if not field.has_db_default() and field.attname not in (*stored, *_COUNTED)
    }
    waits = "unless_one_waits" in columns
    start = f"coalesce(fits.requested_at, {_NOW})" if "requested_at" in columns else _NOW
    due_at = due_at_sql(start=start, rule="fits.deadline", zone="fits.timezone")
    checks = {
        _HAS_UCI: "variable_id" in columns,
        _HAS_BUCKET: has_exports,
        _NONE_WAITS_BY_UCI: waits and "variable_id" in columns,
        _NONE_WAITS_BY_CONVERSATIONS: waits and "conversation_digests" in columns,
    }
    return _STORE.format(
        given=given,
        key=key,
        fits=" AND ".join(check for check, is_needed in checks.items() if is_needed) or "TRUE",
        named=_NAMED if "conversation_digests" in columns else "",
        last="remembered" if has_keys else "fits",
        event=_EVENT,
        columns=", ".join([*stored, *_COUNTED, "deadline", *defaults]),
        values=", ".join(
            [*(f"fits.{name}" for name in stored), _NOT_BEFORE, due_at, "fits.deadline", *defaults.values()]
        ),
        returned=", ".join(["id", *_returned()]),
    )


@cache
def _returned() -> list[str]:
    by_the_database = [field.attname for field in ComplianceRequest._meta.concrete_fields if field.has_db_default()]
    return [*by_the_database, *_COUNTED]
