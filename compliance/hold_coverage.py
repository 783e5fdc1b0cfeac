"""What legal holds cover, and which requests they keep, for previews and pages, and for a release.

The check in the transaction that marks or erases is `compliance.work.legal_holds`.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from chatbots.models import Chatbot
from common.db import array, fetch
from compliance.models import ComplianceRequest, LegalHold, Redaction
from compliance.work import legal_holds
from compliance.work.sql import GIVEN, given_unfiled
from conversations.sql import SELECTED_CONVERSATIONS

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

# Requests that a preview of a hold examines.
MOST_EXAMINED = 1_000

# The conversations of a hold by value or by ids, given as a request: live, marked and erased ones.
_SELECTED = f"""
SELECT count(DISTINCT c.id) FILTER (WHERE c.deletion_request_id IS NULL),
       count(DISTINCT c.id) FILTER (WHERE c.deletion_request_id IS NOT NULL AND c.deleted_at IS NULL),
       count(DISTINCT c.id) FILTER (WHERE c.deleted_at IS NOT NULL)
  FROM {{requests}} CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (
       SELECT id, started_at, deletion_request_id, deleted_at FROM conversations_conversation
        WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
 WHERE {{began}}
"""  # noqa: S608  (texts of ours)
_OF_CHATBOT = """
SELECT count(*) FILTER (WHERE deletion_request_id IS NULL),
       count(*) FILTER (WHERE deletion_request_id IS NOT NULL AND deleted_at IS NULL),
       count(*) FILTER (WHERE deleted_at IS NOT NULL)
  FROM conversations_conversation AS c WHERE chatbot_id = ANY(%(chatbots)s) AND {began}
"""
# An erased conversation keeps only its day.
_BEGAN = """
(%(began_from)s::timestamptz IS NULL
 OR c.started_at >= CASE WHEN c.deleted_at IS NULL THEN %(began_from)s::timestamptz
                    ELSE date_trunc('day', %(began_from)s::timestamptz AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' END)
AND (%(began_before)s::timestamptz IS NULL OR c.started_at < %(began_before)s::timestamptz)
"""
_BY_VALUE_OR_IDS = _SELECTED.format(requests=GIVEN, began=_BEGAN)
_WHOLE = _OF_CHATBOT.format(began=_BEGAN)
# Conversations that deletions of the chatter have erased leave no trace that leads to them.
_ERASED_FOR = """
SELECT coalesce(sum(conversations), 0) FROM compliance_compliancerequest
 WHERE variable_id = %s AND uci_digest = %s AND kind = 'deletion'
"""


class Coverage(NamedTuple):
    """Conversations that a hold covers (`held`), that are being erased, and that are erased.

    `already_erased` of a chatter includes all that deletions of the chatter have erased, whenever they began.
    """

    held: int
    already_marked: int
    already_erased: int


class Waiting(NamedTuple):
    """A request that a hold keeps.

    `numbers` are the conversations that it is about and no other hold covers: a deletion erases those that no hold
    covers, too, once it continues. `held_by_others` counts those under other holds.
    """

    request: ComplianceRequest
    numbers: set[int]
    held_by_others: int

    @property
    def conversations(self) -> int:
        return len(self.numbers)


def coverage(hold: LegalHold) -> Coverage:
    """Return what a hold covers now."""
    return count(hold, digests_of(hold))


def count(hold: LegalHold, digests: list[bytes]) -> Coverage:
    """Return what a hold covers that may not be stored. `digests`: those of the conversations that it names."""
    window = {"began_from": hold.began_from, "began_before": hold.began_before}
    if hold.scope == LegalHold.Scope.CHATBOT:
        return Coverage(*fetch(_WHOLE, {"chatbots": array([hold.chatbot_id]), **window})[0])
    selected = ComplianceRequest(chatbot_id=hold.chatbot_id, variable_id=hold.variable_id, uci_digest=hold.uci_digest)
    selected.conversation_digests = digests
    live, marked, erased = fetch(_BY_VALUE_OR_IDS, given_unfiled(hold.chatbot_id, [selected]) | window)[0]
    if hold.scope == LegalHold.Scope.UCI:
        [(erased,)] = fetch(_ERASED_FOR, [hold.variable_id, hold.uci_digest])
    return Coverage(live, marked, int(erased))


def digests_of(hold: LegalHold) -> list[bytes]:
    return [bytes(one) for one in hold.conversations.order_by("pk").values_list("digest", flat=True)]


def would_wait(hold: LegalHold, digests: Sequence[bytes]) -> list[ComplianceRequest]:
    """Return the deletions and redactions that a hold would keep if it were placed now, in the order of filing.

    Of the chatbot's unfinished requests, the first MOST_EXAMINED are examined.
    """
    unfinished = ComplianceRequest.objects.filter(
        chatbot=hold.chatbot_id,
        kind__in=(Kind.DELETION, Kind.REDACTION),
        status__in=(Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING),
        cutoff_at=None,
    )
    requests = list(unfinished.defer(*ComplianceRequest.UNREAD).order_by("seq")[:MOST_EXAMINED])
    named = _find_named(requests)
    covered = legal_holds.find_covered_by(hold, digests, set[int]().union(*named.values()))
    return [one for one in requests if named.get(one.pk, set()) & covered]


def waiting_for(hold: LegalHold) -> list[Waiting]:
    """Return the requests that this hold keeps, in the order of filing."""
    waiting = on_hold(hold.chatbot)
    held = find_held(waiting)
    every = set[int]().union(*held.values())
    ours = legal_holds.find_covered([hold.pk], hold.chatbot_id, every)
    others = LegalHold.objects.filter(chatbot=hold.chatbot_id, released_at=None).exclude(pk=hold.pk)
    theirs = legal_holds.find_covered(list(others.values_list("pk", flat=True)), hold.chatbot_id, every)
    kept = [one for one in waiting if one.pk in held and held[one.pk] & ours]
    named = _find_named(kept)
    # One can have been released and marked since.
    return [Waiting(one, named.get(one.pk, set()) - theirs, len(held[one.pk] & theirs)) for one in kept]


def holds_on(request: ComplianceRequest) -> list[LegalHold]:
    """Return the holds in force that cover data of this request, the oldest first."""
    numbers = find_held([request]).get(request.pk, set())
    covering = legal_holds.find_covering(request.chatbot_id, numbers)
    return list(LegalHold.objects.filter(pk__in=covering).order_by("pk"))


def on_hold(chatbot: Chatbot) -> list[ComplianceRequest]:
    """Return the chatbot's requests that a legal hold keeps, in the order of filing."""
    waiting = ComplianceRequest.objects.filter(
        chatbot=chatbot, status=Status.ON_HOLD, hold_reason=ComplianceRequest.HoldReason.LEGAL_HOLD
    )
    return list(waiting.defer(*ComplianceRequest.UNREAD).order_by("seq"))


def find_held(requests: Collection[ComplianceRequest]) -> dict[UUID, set[int]]:
    """Return the conversations under a hold of each of these requests that has any."""
    if not requests:
        return {}
    chatbot_id = next(iter(requests)).chatbot_id
    deletions = _deletions(requests)
    held = legal_holds.find_held_by_request(deletions, [chatbot_id]) if deletions else {}
    redacted = _find_redacted(requests)
    covered = legal_holds.find_held([chatbot_id], set(redacted.values()))
    return held | {request_id: {number} for request_id, number in redacted.items() if number in covered}


def _find_named(requests: Collection[ComplianceRequest]) -> dict[UUID, set[int]]:
    """Return the conversations that each of these requests names, of deletions without those that have a mark."""
    redacted = {request_id: {number} for request_id, number in _find_redacted(requests).items()}
    return legal_holds.find_named(_deletions(requests)) | redacted


def _deletions(requests: Collection[ComplianceRequest]) -> list[UUID]:
    return [one.pk for one in requests if one.kind == Kind.DELETION]


def _find_redacted(requests: Collection[ComplianceRequest]) -> dict[UUID, int]:
    redactions = [one.pk for one in requests if one.kind == Kind.REDACTION]
    return dict(Redaction.objects.filter(request__in=redactions).values_list("request", "conversation_id"))
