"""File many requests at once: all that can be filed in one transaction, what is refused told one by one."""

from collections.abc import Mapping

from django.conf import settings
from django.db import transaction

from chatbots.models import Chatbot
from compliance import batch_replays, filing, queue
from compliance.batch_replays import Recalled
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.operations.filing import (
    ATTEMPTS,
    Asked,
    Setup,
    accepted,
    check,
    grace_of,
    no_bucket,
    require_compliance,
)
from compliance.replays import ReplayKey

Kind = ComplianceRequest.Kind

# What one call may file: as many as one transaction may store.
MAX_BATCH = 1_000


def submit_all(
    *,
    chatbot: Chatbot,
    asked: Mapping[int, Asked],
    origin: ComplianceRequest.Origin,
    actor: str,
    replay: ReplayKey | None = None,
) -> dict[int, ComplianceRequest | Refused]:
    """File requests and return each, or why it is refused, by its place in the call. MAX_BATCH at most.

    They are in the line in the order of their places. Those that can be filed are stored in one transaction: all of
    them or, if it fails, none. Two that ask for the same are two requests.

    With `replay`, the same call returns the same requests; what was refused before is tried again. Raises Refused for
    the whole (`idempotency_conflict`, or `compliance_disabled` unless the call was answered before); nothing is
    stored then.
    """
    for _ in range(ATTEMPTS):
        with transaction.atomic():
            recalled = batch_replays.recall(chatbot, replay, asked) if replay else Recalled()
            if not recalled.requests:
                require_compliance(chatbot)
            left = {place: one for place, one in sorted(asked.items()) if place not in recalled.requests}
            fresh, refused = _judge(chatbot, left, origin=origin, actor=actor)
            answers = recalled.requests | fresh
            ids = {place: request.pk for place, request in answers.items()}
            if replay is None or batch_replays.remember(chatbot, replay, recalled, ids):
                _store(chatbot, list(fresh.values()), origin=origin)
                return answers | refused
            # Another call with one of these keys came in between: what it was answered with counts.
            transaction.set_rollback(True)
    raise RuntimeError("A batch could not be filed: each time, another call with its key came in between.")


def _judge(
    chatbot: Chatbot, asked: Mapping[int, Asked], *, origin: ComplianceRequest.Origin, actor: str
) -> tuple[dict[int, ComplianceRequest], dict[int, Refused]]:
    """Return the requests to be filed, not stored yet, and the refusals."""
    setup = Setup(chatbot)
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


def _store(chatbot: Chatbot, requests: list[ComplianceRequest], *, origin: ComplianceRequest.Origin) -> None:
    if requests:
        entries = [accepted(request) for request in requests]
        filing.file_all(requests, grace=grace_of(chatbot, origin), due_in=settings.DUE_DAYS, entries=entries)
        queue.ring_after_commit()
