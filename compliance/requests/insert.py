"""Store a request, the calls that it answers and its change-log entry, by one statement.

One trip to the database instead of eight, and no more waiting than there must be: of two calls with one key, the
later waits at the unique index of Replay until the first has ended. If that one committed, the later stores
nothing; if it rolled back, the later stores its own.

The statement also looks again at what its caller may know from earlier: that the variable is still the same one and
is or was the UCI, where one is named, and that an export has a bucket to go to. So whatever is remembered between
calls is never relied on.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from psycopg import sql

from chatbots import changelog
from chatbots.changelog import Entry
from chatbots.models import Variable
from common.db import fetch
from compliance.models import ComplianceRequest
from compliance.requests.idempotency import ReplayKey, remembering

_GIVEN = (
    *("id", "chatbot_id", "kind", "origin", "filed_by", "variable_id", "uci_value", "uci_digest"),
    "conversation_digests",
    *("reference", "callback_url", "erase_exports", "include_shared", "include_files"),
)
# Counted from now by the database's clock; null where no time is given.
_FROM_NOW = ("not_before", "due_at")
_TIMES = ["statement_timestamp() + make_interval(secs => %s)"] * len(_FROM_NOW)

# No change-log entry without a request, and no request unless each of its keys was new.
_FILE = """
WITH fits AS MATERIALIZED (
    SELECT FROM {subject} WHERE (NOT %s OR EXISTS (SELECT FROM chatbots_bucket WHERE chatbot_id = %s)){unless}
), remembered AS ({remembering}), filed AS (
    INSERT INTO compliance_compliancerequest ({columns})
    SELECT {values} FROM fits WHERE (SELECT count(*) FROM remembered) = %s
    RETURNING {returned}
), logged AS (
    INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, data)
    SELECT %s, %s, %s, %s, %s FROM filed
)
SELECT (SELECT count(*) FROM remembered), filed.* FROM (SELECT) AS always LEFT JOIN filed ON TRUE
"""
# `seq` is drawn in the order of the places.
_FILE_MANY = """
INSERT INTO compliance_compliancerequest ({columns})
SELECT {values} FROM jsonb_to_recordset(%s::jsonb) AS given({given})
 ORDER BY given.place
RETURNING {returned}
"""
_BY_UCI = """(
    SELECT FROM chatbots_variable
     WHERE id = %s AND chatbot_id = %s AND name = %s AND public_id = %s AND (is_uci OR was_uci)) AS uci"""
_BY_CONVERSATIONS = "(SELECT) AS always"
# Whoever files looks then whether it is an equal one (`equal_exports`).
_UNLESS_ONE_WAITS = """
       AND NOT EXISTS (SELECT FROM compliance_compliancerequest
                        WHERE {same} AND kind = 'export' AND status = 'accepted' AND claim_id IS NULL)"""
_UNLESS_BY_UCI = _UNLESS_ONE_WAITS.format(same="variable_id = %s AND uci_digest = %s")
_UNLESS_BY_CONVERSATIONS = _UNLESS_ONE_WAITS.format(same="conversation_digests @> %s")


def file(
    request: ComplianceRequest,
    *,
    uci: Variable | None,
    grace: timedelta | None,
    due_in: timedelta,
    entry: Entry,
    replay: ReplayKey | None,
    unless_one_waits: bool = False,
) -> bool:
    """Store an unsaved request, and fill in what the database gave it. Return False, with nothing stored, if
    the variable does not fit, an export has no bucket, or one of the replay's keys has its answer already; with
    `unless_one_waits` also if an export waits that is about the same.

    `uci` is the request's variable, None for a request by conversations. Of the request, only the fields in `_GIVEN`
    may differ from their defaults.
    """
    keys = list(replay.each()) if replay else []
    remembered, remembered_values = remembering(keys, request, provided="fits")
    values = [
        *((uci.pk, request.chatbot_id, uci.name, uci.public_id) if uci else ()),
        *(request.kind == ComplianceRequest.Kind.EXPORT, request.chatbot_id),
        *(_subject(request) if unless_one_waits else ()),
        *remembered_values,
        *(getattr(request, name) for name in _GIVEN),
        *(grace.total_seconds() if grace else None, due_in.total_seconds()),
        len(keys),
        *(entry.chatbot_id, entry.request_id, entry.event, entry.actor, json.dumps(entry.data)),
    ]
    statement = _statement(is_by_uci=uci is not None, unless_one_waits=unless_one_waits)
    statement = statement.replace("{remembering}", remembered)
    # By itself the statement is a transaction. Only one of two keys can be new without the other.
    with transaction.atomic() if len(keys) > 1 else nullcontext():
        [(new_keys, *given)] = fetch(statement, values)
        filed = given[0] is not None
        if new_keys and not filed:
            # One of two keys has its answer, and the other must not be known before it points there too.
            transaction.set_rollback(True)
    if filed:
        _take_over(request, given)
    return filed


def file_all(
    requests: Sequence[ComplianceRequest], *, grace: timedelta | None, due_in: timedelta, entries: Sequence[Entry]
) -> None:
    """Store many unsaved requests with their change-log entries in the caller's transaction, and fill in what the
    database gave them. They are in the line in the order in which they are given.

    Nothing is looked at again: the caller has read in this transaction that each variable and bucket is there. Of
    each request, only the fields in `_GIVEN` may differ from their defaults.
    """
    given = [
        {name: as_json(getattr(request, name)) for name in _GIVEN} | {"place": place}
        for place, request in enumerate(requests)
    ]
    values = [grace.total_seconds() if grace else None, due_in.total_seconds(), json.dumps(given)]
    stored = {request_id: columns for request_id, *columns in fetch(_statement_for_many(), values)}
    for request in requests:
        _take_over(request, stored[request.pk])
    changelog.record_all(entries)


def as_json(value: Any) -> Any:
    """Return a column's value as `jsonb_to_recordset` reads it."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, list):
        return [as_json(one) for one in value]
    return str(value) if isinstance(value, UUID) else value


def _take_over(request: ComplianceRequest, given: Sequence[Any]) -> None:
    for name, value in zip(_returned(), given, strict=True):
        setattr(request, name, value)
    request._state.adding, request._state.db = False, connection.alias
    # Nobody can have begun to export what was filed just now: spares whoever looks a query.
    ComplianceRequest._meta.get_field("export").set_cached_value(request, None)


def _subject(request: ComplianceRequest) -> Sequence[Any]:
    return (request.variable_id, request.uci_digest) if request.variable_id else (request.conversation_digests,)


@cache
def _statement(*, is_by_uci: bool, unless_one_waits: bool) -> str:
    """Return the statement; `{remembering}` is left open.

    All that is the same in every call stands in it as a literal: psycopg goes through a statement of more than 50
    parameters anew each time, and remembers what it found in others.
    """
    defaults = _defaults()
    return _FILE.format(
        subject=_BY_UCI if is_by_uci else _BY_CONVERSATIONS,
        unless=(_UNLESS_BY_UCI if is_by_uci else _UNLESS_BY_CONVERSATIONS) if unless_one_waits else "",
        remembering="{remembering}",
        columns=", ".join([*_GIVEN, *_FROM_NOW, *defaults]),
        values=", ".join([*(["%s"] * len(_GIVEN)), *_TIMES, *defaults.values()]),
        returned=", ".join(_returned()),
    )


@cache
def _statement_for_many() -> str:
    defaults = _defaults()
    types = {
        field.attname: field.rel_db_type(connection) if field.is_relation else field.db_type(connection)
        for field in ComplianceRequest._meta.concrete_fields
    }
    types = {name: str(types[name]) for name in _GIVEN}
    return _FILE_MANY.format(
        columns=", ".join([*_GIVEN, *_FROM_NOW, *defaults]),
        values=", ".join([*(f"given.{name}" for name in _GIVEN), *_TIMES, *defaults.values()]),
        given=", ".join(["place int", *(f"{name} {kind}" for name, kind in types.items())]),
        returned=", ".join(["id", *_returned()]),
    )


@cache
def _defaults() -> dict[str, str]:
    return {
        field.attname: sql.Literal(field.get_db_prep_save(field.get_default(), connection)).as_string()
        for field in ComplianceRequest._meta.concrete_fields
        if not field.has_db_default() and field.attname not in (*_GIVEN, *_FROM_NOW)
    }


@cache
def _returned() -> list[str]:
    by_the_database = [field.attname for field in ComplianceRequest._meta.concrete_fields if field.has_db_default()]
    return [*by_the_database, *_FROM_NOW]
