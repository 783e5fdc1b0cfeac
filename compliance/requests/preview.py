"""The effects that deletions and exports would have now: the searches of unfiled requests, without any change.

Conversations are found as for requests that are carried out (`finds`, `work/scope.py`). The effects on exports, days
and files are computed as in `erasure/`, and those on a file as in `conversations/transcripts.py`. Tests preview
requests, file them, and compare. The number of rows read is bounded.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from django.conf import settings
from psycopg import sql

from chatbots.models import Chatbot
from common.db import array, fetch
from compliance.erasure import extracts
from compliance.erasure.exports import EXPIRES_AT
from compliance.errors import Refused
from compliance.inventory import ReachedBy, stores
from compliance.models import ComplianceRequest
from compliance.requests import similar
from compliance.requests.finds import MOST_NAMED, ByAssurance, Finds, Found, Totals, find, total
from compliance.requests.inputs import ChatbotConfig, RequestInput
from compliance.requests.similar import Similar
from compliance.storage_locations import OUT_OF_REACH
from compliance.work.scope import IS_AT_CLIENT, IS_OWN, UNFILED
from compliance.work.sql import given_unfiled
from conversations.models import Identity, UploadedFile
from conversations.snapshots import one_instant

Kind = ComplianceRequest.Kind

# Limits for each of many chatters: similar values, and counted conversations.
MOST_ALIKE = 3
MOST_ALIKE_COUNTED = 100
# The number of messages whose days are looked up one by one: as many as a deletion erases in one chunk. With more
# messages, a conversation counts for each day from its beginning to its last message.
EXACT_MESSAGES = 25_000

_COUNT_ROWS = sql.SQL("""
SELECT count(*)
  FROM unnest(%(numbers)s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT FROM {table}
        WHERE conversation_id = ours.id AND chatbot_id = %(chatbot)s AND {condition} OFFSET 0) AS held
""")
_ALL, _HAS_VALUE = sql.SQL("TRUE"), sql.SQL("value IS NOT NULL")
_STORED, _WHOLE = sql.SQL("state = 'stored'"), sql.SQL("size IS NOT NULL")

# The expiry that a mark would set. An earlier deletion may have emptied the key of an export in a client's bucket.
_GOES_NOW = f"EXISTS (SELECT FROM r WHERE r.erase_exports AND {IS_OWN})"
_EXPORTS = f"""
{UNFILED.met}
SELECT e.request_id, e.hosting = 'hosted',
       CASE WHEN e.hosting = 'client' THEN e.finished_at IS NULL AND NOT ({OUT_OF_REACH})
            ELSE {EXPIRES_AT.format(goes_now=_GOES_NOW)} <= clock_timestamp() END
  FROM (SELECT DISTINCT export_id FROM met) AS met
 CROSS JOIN LATERAL (
       SELECT * FROM compliance_export
        WHERE id = met.export_id AND (key IS NOT NULL OR (hosting = 'client' AND finished_at IS NOT NULL))
       OFFSET 0) AS e
 CROSS JOIN LATERAL (
       SELECT variable_id, uci_digest FROM compliance_compliancerequest WHERE id = e.request_id OFFSET 0) AS filed
 ORDER BY e.finished_at DESC NULLS FIRST, e.request_id
"""  # noqa: S608  (texts of ours)

_HOURS = """
SELECT min(m.sent_at), max(m.sent_at)
  FROM unnest(%(numbers)s::bigint[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT sent_at FROM conversations_message
        WHERE conversation_id = ours.id AND chatbot_id = %(chatbot)s OFFSET 0) AS m
 GROUP BY date_trunc('hour', m.sent_at)
"""
# The extracts that `erasure.extracts` would flag, and those that it has flagged for erased conversations. A day
# without a file is built without the erased data, and is not counted. Overlapping spans are united first, so that a
# day is not looked up for each of them.
_DAYS = f"""
WITH met AS (
    SELECT e.id, NULL::bigint AS version
      FROM (SELECT range_agg(tstzrange(first, last, '[]')) AS spans
              FROM unnest(%(firsts)s::timestamptz[], %(lasts)s::timestamptz[]) AS given(first, last)) AS united
     CROSS JOIN LATERAL (
           SELECT %(chatbot)s AS chatbot_id, lower(span) AS first, upper(span) AS last
             FROM unnest(united.spans) AS span) AS said
     CROSS JOIN LATERAL ({extracts.OF_SPAN}) AS e
     UNION
    SELECT t.extract_id, t.version
      FROM unnest(%(erased)s::bigint[]) AS ours(id)
     CROSS JOIN LATERAL (
           SELECT extract_id, version FROM conversations_extractconversation
            WHERE conversation_id = ours.id OFFSET 0) AS t
)
SELECT count(DISTINCT e.id) FILTER (
           WHERE e.hosting = 'hosted' AND e.key IS NOT NULL
             AND (met.version IS NULL OR coalesce(e.made_version, 0) < met.version)),
       count(DISTINCT e.id) FILTER (WHERE {IS_AT_CLIENT.format(version="met.version")})
  FROM met
 CROSS JOIN LATERAL (SELECT * FROM conversations_dailyextract WHERE id = met.id OFFSET 0) AS e
"""  # noqa: S608  (a text of ours)


@dataclass(frozen=True)
class Deletion:
    """The data that a deletion would erase, by the request's counters, and keep. `found`: its conversations.

    `assurance`: their numbers by the reliability of the chatter's identity; None if they were selected by ids.
    """

    erased: dict[str, int]
    kept_exports: int
    delivered_exports: int
    delivered_extracts: int
    exports_that_go: list[UUID]
    found: Totals
    assurance: ByAssurance | None


@dataclass(frozen=True)
class Export:
    """The contents of an export. `refused` is the code with which its filing would be refused now.

    `assurance` is as for a deletion, and includes the conversations that are left out.
    """

    found: Totals
    files: int
    shared_left_out: int
    unverified_left_out: int
    assurance: ByAssurance | None
    refused: str | None


@dataclass(frozen=True)
class Preview:
    """The effects of requests: of each by itself, in their order, and of all together, by kind (None if not asked
    for).

    Together, a conversation of several chatters is counted once, by its strongest identity.
    """

    each: list[Finds]
    deletion: Deletion | None
    export: Export | None

    @property
    def only(self) -> Finds:
        """The finds of a single request."""
        [finds] = self.each
        return finds


def preview(*, chatbot: Chatbot, asked: RequestInput, kinds: Sequence[Kind]) -> Preview:
    """Return the effects of a request of each kind if it were carried out now.

    All data is of one instant. Raises Refused as `submit` does, except for an export without a bucket.
    """
    with one_instant():
        request = _unfiled(ChatbotConfig(chatbot), asked)
        return _examine_one(request, kinds, with_similar=True)


def preview_filed(
    request: ComplianceRequest, *, with_similar: bool = False, leaves_out_held: bool = False
) -> Preview:
    """Return the effects of a waiting deletion, which still has its subject, if it were carried out now.

    Its value is read only `with_similar`. If only its digest is stored, nothing similar is found. With
    `leaves_out_held`, conversations under a legal hold are only counted (`Finds.under_hold`).
    """
    with one_instant():
        return _examine_one(request, [Kind.DELETION], with_similar=with_similar, leaves_out_held=leaves_out_held)


def preview_many(*, chatbot: Chatbot, key: str, asked: Sequence[RequestInput]) -> Preview:
    """Return the effects of requests of one kind about chatters by this UCI key if they were carried out now.

    All data is of one instant. Raises Refused for the whole: `compliance_disabled`, `uci_not_designated`,
    `unknown_uci_key`, and `invalid` if they have more conversations together than a preview reads.
    """
    kind = asked[0].kind
    with one_instant():
        config = ChatbotConfig(chatbot)
        config.require_compliance()
        variable = config.find_uci(key)
        requests, refused = [], {}
        for place, one in enumerate(asked):
            try:
                requests.append(_unfiled(config, one))
            except Refused as refusal:
                without_subject = ComplianceRequest(chatbot=chatbot, kind=kind)
                refused[place] = Finds(without_subject, refused=refusal.with_traceback(None))
        found = _examine(chatbot, requests, [kind])
        similar_chatters = similar.find(
            chatbot_id=chatbot.pk,
            variable_id=variable.pk,
            values=[one.uci_value or "" for one in requests],
            most=MOST_ALIKE,
            most_counted=MOST_ALIKE_COUNTED,
        )
    for finds, similar_to_one in zip(found.each, similar_chatters, strict=True):
        finds.similar = similar_to_one
    filed = iter(found.each)
    return replace(found, each=[refused.get(place) or next(filed) for place in range(len(asked))])


def _unfiled(config: ChatbotConfig, asked: RequestInput) -> ComplianceRequest:
    return asked.validate(config, origin=ComplianceRequest.Origin.API, actor="")


def _examine_one(
    request: ComplianceRequest, kinds: Sequence[Kind], *, with_similar: bool, leaves_out_held: bool = False
) -> Preview:
    similar_chatters: list[Similar] = []
    if with_similar and request.variable_id and request.uci_value is not None:
        values = [request.uci_value]
        [similar_chatters] = similar.find(
            chatbot_id=request.chatbot_id, variable_id=request.variable_id, values=values
        )
    found = _examine(request.chatbot, [request], kinds, leaves_out_held=leaves_out_held)
    found.only.similar = similar_chatters
    return found


def _examine(
    chatbot: Chatbot,
    requests: Sequence[ComplianceRequest],
    kinds: Sequence[Kind],
    *,
    leaves_out_held: bool = False,
) -> Preview:
    each = find(chatbot, requests)
    if leaves_out_held:
        for finds in each:
            finds.live = [one for one in finds.live if one.number not in finds.under_hold]
    together = _merge(chatbot, each)
    return Preview(
        each,
        _count_deletion(chatbot, requests, together) if Kind.DELETION in kinds else None,
        _count_export(chatbot, together) if Kind.EXPORT in kinds else None,
    )


def _merge(chatbot: Chatbot, each: Sequence[Finds]) -> Finds:
    """Return the conversations of all finds, each once, with its strongest identity."""
    live: dict[int, Found] = {}
    for one in (conversation for finds in each for conversation in finds.live):
        if live.setdefault(one.number, one) is not one and one.is_surer_than(live[one.number]):
            live[one.number] = one
    return Finds(
        each[0].request if each else ComplianceRequest(chatbot=chatbot),
        live=list(live.values()),
        erased=list({number for finds in each for number in finds.erased}),
    )


def _count_deletion(chatbot: Chatbot, requests: Sequence[ComplianceRequest], finds: Finds) -> Deletion:
    numbers = [conversation.number for conversation in finds.live]
    found = total(finds.live)
    erased = {"conversations": found.conversations, "messages": found.messages}
    for store in stores(ReachedBy.CONVERSATION):
        if store.counter not in {"", "messages"}:
            condition = _HAS_VALUE if store.model is Identity else _ALL
            erased[store.counter] = _count_rows(store.table, chatbot, numbers, condition)
    # Includes files of which only the object exists. A file that is not whole is not counted.
    numbers += finds.erased
    erased["files"] = _count_rows(UploadedFile._meta.db_table, chatbot, numbers, _WHOLE)
    values = {"numbers": array(numbers), "grace": settings.EXPORT_GRACE_DAYS.total_seconds()}
    exports = fetch(_EXPORTS, {**given_unfiled(chatbot.pk, requests), **values})
    going = [request_id for request_id, _, goes in exports if goes]
    staying = [is_hosted for _, is_hosted, goes in exports if not goes]
    hosted, delivered = _count_days(chatbot, finds)
    return Deletion(
        erased=erased | {"exports": len(going), "extracts": hosted},
        kept_exports=staying.count(True),
        delivered_exports=staying.count(False),
        delivered_extracts=delivered,
        exports_that_go=going[:MOST_NAMED],
        found=found,
        assurance=finds.by_assurance(finds.live),
    )


def _count_export(chatbot: Chatbot, finds: Finds) -> Export:
    chosen, reliable = finds.in_file, finds.reliable
    numbers = [one.number for one in chosen]
    includes_files = finds.request.include_files
    return Export(
        found=total(chosen),
        files=_count_rows(UploadedFile._meta.db_table, chatbot, numbers, _STORED) if includes_files else 0,
        shared_left_out=len(reliable) - len(chosen),
        unverified_left_out=len(finds.unmarked) - len(reliable),
        assurance=finds.by_assurance(finds.unmarked),
        refused=None if ChatbotConfig(chatbot).has_bucket else "export_destination_missing",
    )


def _count_rows(table: str, chatbot: Chatbot, numbers: Collection[int], condition: sql.SQL) -> int:
    statement = _COUNT_ROWS.format(table=sql.Identifier(table), condition=condition)
    [(number,)] = fetch(statement, {"chatbot": chatbot.pk, "numbers": array(numbers)})
    return int(number)


def _count_days(chatbot: Chatbot, finds: Finds) -> tuple[int, int]:
    """Return the numbers of hosted days that would be rebuilt, and of delivered ones that would be kept."""
    if not extracts.has_any([chatbot.pk]):
        return 0, 0
    if sum(one.message_count for one in finds.live) <= EXACT_MESSAGES:
        spans = fetch(_HOURS, {"chatbot": chatbot.pk, "numbers": array(one.number for one in finds.live)})
    else:
        spans = [(one.first, one.last) for one in finds.live]
    values = {
        "chatbot": chatbot.pk,
        "firsts": [first for first, _ in spans],
        "lasts": [last for _, last in spans],
        "erased": array(finds.erased),
    }
    [(hosted, delivered)] = fetch(_DAYS, values)
    return hosted, delivered
