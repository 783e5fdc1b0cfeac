"""File many requests at once: all that can be filed in one transaction, what is refused told one by one."""

from collections.abc import Mapping

from django.conf import settings
from django.db import transaction

from chatbots import changelog
from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import equal_exports, idempotency_batch, insert
from compliance.requests.idempotency import ReplayKey
from compliance.requests.idempotency_batch import Recalled
from compliance.requests.submit import (
    ATTEMPTS,
    ChatbotConfig,
    RequestInput,
    accepted,
    check,
    grace_of,
    no_bucket,
    require_compliance,
)
from compliance.work import notify

Kind = ComplianceRequest.Kind

# What one call may file: as many as one transaction may store.
MAX_BATCH = 1_000


def submit_all(
    *,
    chatbot: Chatbot,
    asked: Mapping[int, RequestInput],
    origin: ComplianceRequest.Origin,
    actor: str,
    replay: ReplayKey | None = None,
) -> dict[int, ComplianceRequest | Refused]:
    """File requests and return each, or why it is refused, by its place in the call. MAX_BATCH at most.

    They are in the line in the order of their places. Those that can be filed are stored in one transaction: all of
    them or, if it fails, none. Two deletions that ask for the same are two requests; of two such exports the first
    answers for the second, and so does an equal one that waits (`equal_exports`).

    With `replay`, the same call returns the same requests; what was refused before is tried again. Raises Refused for
    the whole (`idempotency_conflict`, or `compliance_disabled` unless the call was answered before); nothing is
    stored then.
    """
    for _ in range(ATTEMPTS):
        with transaction.atomic():
            recalled = idempotency_batch.recall(chatbot, replay, asked) if replay else Recalled()
            if not recalled.requests:
                require_compliance(chatbot)
            left = {place: one for place, one in sorted(asked.items()) if place not in recalled.requests}
            unsaved, refused = _judge(chatbot, left, origin=origin, actor=actor)
            answers = _with_equals(left, unsaved)
            if replay is None or idempotency_batch.remember(chatbot, replay, recalled, recalled.requests | answers):
                _store(answers, origin=origin, actor=actor)
                return recalled.requests | answers | refused
            # Another call with one of these keys came in between: what it was answered with counts.
            transaction.set_rollback(True)
    raise RuntimeError("A batch could not be filed: each time, another call with its key came in between.")


def _judge(
    chatbot: Chatbot, asked: Mapping[int, RequestInput], *, origin: ComplianceRequest.Origin, actor: str
) -> tuple[dict[int, ComplianceRequest], dict[int, Refused]]:
    """Return the requests that could be filed, not stored yet, and the refusals."""
    setup = ChatbotConfig(chatbot)
    fresh: dict[int, ComplianceRequest] = {}
    refused: dict[int, Refused] = {}
    for place, one in asked.items():
        try:
            checked = check(setup, one.about, one.reference, one.callback_url)
            if one.kind == Kind.EXPORT and not setup.has_bucket:
                raise no_bucket()
        except Refused as refusal:
            refused[place] = refusal
        else:
            fresh[place] = one.unsaved(chatbot, checked, origin=origin, actor=actor)
    return fresh, refused


def _with_equals(
    asked: Mapping[int, RequestInput], unsaved: Mapping[int, ComplianceRequest]
) -> dict[int, ComplianceRequest]:
    """Return what answers at each place, in order: the request itself, or of exports an equal one.

    A deletion in between parts what is before it from what is behind it.
    """
    can_be = [request for place, request in unsaved.items() if asked[place].can_be_answered]
    equals = equal_exports.find(can_be) if can_be else {}
    waiting: dict[object, ComplianceRequest] = {}
    deleted: set[bytes] = set()
    answers: dict[int, ComplianceRequest] = {}
    for place, request in sorted(unsaved.items()):
        subject = _subject(request)
        answers[place] = request
        if request.kind == Kind.DELETION:
            deleted |= subject
            waiting = {what: one for what, one in waiting.items() if subject.isdisjoint(_subject(one))}
            continue
        what = (subject, request.include_shared, request.include_files, request.reference, request.callback_url)
        if asked[place].can_be_answered:
            stored = equals.get(request.pk) if subject.isdisjoint(deleted) else None
            if equal := waiting.get(what) or stored:
                answers[place] = equal_exports.answering(equal)
        waiting[what] = answers[place]
    return answers


def _subject(request: ComplianceRequest) -> frozenset[bytes]:
    """Return the digests of whom it is about: no two selectors have one in common."""
    digests = [request.uci_digest] if request.uci_digest else request.conversation_digests or []
    return frozenset(map(bytes, digests))


def _store(answers: Mapping[int, ComplianceRequest], *, origin: ComplianceRequest.Origin, actor: str) -> None:
    """File what is new among the answers, and note which exports answer for others."""
    fresh = {one.pk: one for one in answers.values() if not one.existing}
    if fresh:
        requests = list(fresh.values())
        entries = [accepted(request) for request in requests]
        grace = grace_of(requests[0].chatbot, origin)
        insert.file_all(requests, grace=grace, due_in=settings.DUE_DAYS, entries=entries)
        notify.notify_workers_after_commit()
    equals = [one for one in answers.values() if one.existing]
    changelog.record_all(equal_exports.entries(equals, origin=origin, actor=actor))
    for one in equals:
        if one.pk in fresh:
            # What the database gave to the one that this is a copy of.
            one.__dict__ |= fresh[one.pk].__dict__ | {"existing": True}
