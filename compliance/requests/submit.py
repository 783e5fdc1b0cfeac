"""File requests: validate the input, store it in one statement, notify the workers."""

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from copy import copy
from datetime import timedelta
from typing import Any

from django.db import transaction

from chatbots import changelog
from chatbots.models import Chatbot
from compliance.cluster import notify
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import equal_exports, idempotency, insert
from compliance.requests.idempotency import Answer, Recalled, ReplayKey
from compliance.requests.inputs import ChatbotConfig, Kind, RequestInput

Outcomes = dict[int, ComplianceRequest | Refused]

# The most requests that one call may file: as many as one transaction may store.
MAX_BATCH = 1_000

# Another call with the same key can come in between at each attempt.
_ATTEMPTS = 5

# A user who files a deletion or a redaction in the console can always cancel it for this long.
CONSOLE_GRACE = timedelta(minutes=15)


def submit(
    *,
    chatbot: Chatbot,
    origin: ComplianceRequest.Origin,
    actor: str,
    replay: ReplayKey | None = None,
    **fields: Any,
) -> ComplianceRequest:
    """File one request, given by the fields of RequestInput, and return it; see `submit_many`.

    Raises Refused with the codes `compliance_disabled`, `uci_not_designated`, `unknown_uci_key`, `invalid`,
    `export_destination_missing`, `signing_key_missing`, `idempotency_conflict`; nothing is stored then.
    """
    inputs = {0: RequestInput(**fields)}
    [outcome] = submit_many(chatbot=chatbot, inputs=inputs, origin=origin, actor=actor, replay=replay).values()
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def submit_many(
    *,
    chatbot: Chatbot,
    inputs: Mapping[int, RequestInput],
    origin: ComplianceRequest.Origin,
    actor: str,
    replay: ReplayKey | None = None,
) -> Outcomes:
    """File requests and return each request, or its refusal, by its place in the call. MAX_BATCH at most.

    They are queued in the order of their places. Those that can be filed are stored in one transaction: all of them
    or, if it fails, none. An equal export that waits, or that the call files before, answers as `existing`
    (`equal_exports`). Two equal deletions are two requests.

    With `replay`, the same call returns the same requests, and refused ones are tried again. `actor` is kind
    and id, as in the change log (`api:<key prefix>`, `command`). Raises Refused for all (`idempotency_conflict`, or
    `compliance_disabled` unless the call was answered before); nothing is stored then.
    """
    for is_optimistic in (len(inputs) == 1, *[False] * _ATTEMPTS):
        # By itself, the statement that stores one request and one key is a transaction.
        in_transaction = not is_optimistic or (replay is not None and len(replay.all(inputs)) > 1)
        with transaction.atomic() if in_transaction else nullcontext():
            outcomes = _attempt(chatbot, inputs, origin, actor, replay, is_optimistic=is_optimistic)
            if outcomes is not None:
                return outcomes
            if in_transaction:
                transaction.set_rollback(True)
    raise RuntimeError("A call could not be answered: each time, another one with its key came in between.")


def _attempt(
    chatbot: Chatbot,
    inputs: Mapping[int, RequestInput],
    origin: ComplianceRequest.Origin,
    actor: str,
    replay: ReplayKey | None,
    *,
    is_optimistic: bool,
) -> Outcomes | None:
    """Return the outcomes, or None if nothing was stored and a further attempt is needed.

    Nearly every call is new, and nothing equal to it waits. So an optimistic attempt skips these look-ups and uses
    the cached settings of the chatbot. The statement that stores checks both.
    """
    if is_optimistic and replay and not chatbot.compliance_enabled:
        return None
    config = ChatbotConfig(chatbot, remembers=is_optimistic)
    recalled = idempotency.recall(replay, inputs) if replay and not is_optimistic else Recalled()
    if not recalled.answers:
        config.require_compliance()
    new = {place: one for place, one in sorted(inputs.items()) if place not in recalled.answers}
    unsaved: dict[int, ComplianceRequest] = {}
    refused: dict[int, Refused] = {}
    for place, one in new.items():
        try:
            unsaved[place] = one.validate(config, origin=origin, actor=actor)
            if one.kind == Kind.EXPORT and not is_optimistic:
                config.require_bucket()
        except Refused as refusal:
            unsaved.pop(place, None)
            refused[place] = refusal
    if is_optimistic and replay and (refused or not unsaved):
        # The call may have been answered before. Then it gets the same answer, whatever has changed since.
        return None
    accepts_equal = [request for place, request in unsaved.items() if new[place].accepts_equal]
    waiting = {} if is_optimistic else equal_exports.find(accepts_equal)
    answers = equal_exports.answers(new, unsaved, waiting)
    if not _store(recalled, answers, chatbot, origin, replay, unless_equal=accepts_equal if is_optimistic else ()):
        return None
    equals = [answer.request for answer in answers.values() if answer.existing]
    changelog.record_all(equal_exports.entries(equals, origin=origin, actor=actor))
    return {place: _outcome(answer) for place, answer in (recalled.answers | answers).items()} | refused


def _store(
    recalled: Recalled,
    answers: dict[int, Answer],
    chatbot: Chatbot,
    origin: ComplianceRequest.Origin,
    replay: ReplayKey | None,
    *,
    unless_equal: Collection[ComplianceRequest],
) -> bool:
    """Store the requests among the answers, and the keys of the call that are not stored yet; see `insert.store`."""
    requests = [answer.request for answer in answers.values() if not answer.existing]
    all_answers = recalled.answers | answers
    all_keys = replay.all(all_answers) if replay else []
    keys = [(key, all_answers[key.place]) for key in all_keys if key.digest not in recalled.digests]
    if not requests and not keys:
        return True
    is_stored = insert.store(
        requests,
        grace=max((grace_of(chatbot, one.kind, origin) for one in requests), default=None) or None,
        replay=replay,
        keys=keys,
        unless_one_waits={request.pk for request in unless_equal},
    )
    if is_stored and requests:
        notify.after_commit(notify.notify_workers)
    return is_stored


def _outcome(answer: Answer) -> ComplianceRequest:
    if not answer.existing:
        return answer.request
    request = copy(answer.request)
    request.existing = True
    return request


def grace_of(chatbot: Chatbot, kind: str, origin: ComplianceRequest.Origin) -> timedelta:
    """Return the time that a deletion or export filed now waits before workers may take it."""
    grace = timedelta(minutes=chatbot.grace_minutes)
    is_by_person = kind == Kind.DELETION and origin == ComplianceRequest.Origin.CONSOLE
    return max(grace, CONSOLE_GRACE) if is_by_person else grace
