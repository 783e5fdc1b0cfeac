"""Send callbacks again, because a person or a client asks for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from chatbots import changelog
from chatbots.models import Chatbot
from common.db import array, fetch
from compliance.callbacks.deadline_events import EVENT_OF, STILL_HOLDS
from compliance.cluster import notify
from compliance.errors import Refused
from compliance.models import Callback
from compliance.work.outbox import TRIED_FOR

_BATCH = 1_000

# To the request's own address, else to the chatbot's (''), else to the previous one. Leased rows are skipped.
_CHOSEN = """
SELECT c.id, CASE WHEN r.callback_url <> '' OR b.callback_url <> '' THEN r.callback_url
                  ELSE nullif(c.url, '') END AS url
  FROM compliance_callback c
  JOIN compliance_compliancerequest r ON r.id = c.request_id
  JOIN chatbots_chatbot b ON b.id = c.chatbot_id
 WHERE c.id = ANY(%(ids)s::uuid[]) AND (c.token IS NULL OR c.next_attempt_at <= statement_timestamp())
"""
_RESEND = f"""
WITH chosen AS ({_CHOSEN} ORDER BY c.id FOR UPDATE OF c)
UPDATE compliance_callback c
   SET state = 'waiting', url = chosen.url, token = NULL, attempts = 0, next_attempt_at = statement_timestamp(),
       delivered_at = NULL, give_up_at = statement_timestamp() + make_interval(secs => %(tried)s),
       expires_at = statement_timestamp() + make_interval(secs => %(kept)s)
  FROM chosen WHERE c.id = chosen.id AND chosen.url IS NOT NULL
RETURNING c.id, c.chatbot_id, c.request_id, {EVENT_OF}
"""  # noqa: S608  (a text of ours)
_FORGOTTEN = f"SELECT count(*) FROM ({_CHOSEN}) AS chosen WHERE url IS NULL"  # noqa: S608  (a text of ours)


@dataclass(frozen=True)
class Resent:
    """How many callbacks are sent again, and how many have no address left to go to."""

    resent: int
    forgotten: int


def callbacks_of(request_id: UUID) -> list[Callback]:
    """Return a request's callbacks that are still on record, in the order of events."""
    return list(Callback.objects.filter(request=request_id).select_related("chatbot").order_by("occurred_at"))


def resend_of_request(*, request_id: UUID, actor: str, dry_run: bool = False) -> Resent:
    """Send all callbacks of a request again, including delivered ones, but no event of a deadline that is over.

    Raises Refused (`not_found`: none is on record; `callback_url_forgotten`: none has an address left).
    """
    found = Callback.objects.filter(STILL_HOLDS, request=request_id)
    return _resend_some(found, actor=actor, dry_run=dry_run, missing="This request has no callbacks on record.")


def resend_one(*, callback_id: UUID, actor: str) -> Resent:
    """Send one callback again. Raises Refused as `resend_of_request` does."""
    found = Callback.objects.filter(STILL_HOLDS, pk=callback_id)
    return _resend_some(
        found, actor=actor, dry_run=False, missing="There is no such callback, or its deadline is over."
    )


def resend_given_up(*, actor: str, chatbot: Chatbot | None = None, dry_run: bool = False) -> Resent:
    """Send callbacks again that were given up, of all chatbots or of one, in batches of a transaction each."""
    found = Callback.objects.filter(STILL_HOLDS, state=Callback.State.GIVEN_UP)
    if chatbot is not None:
        found = found.filter(chatbot=chatbot)
    outcomes = [_resend(ids, actor=actor, dry_run=dry_run) for ids in _batches(found)]
    return Resent(sum(one.resent for one in outcomes), sum(one.forgotten for one in outcomes))


def _resend_some(found: QuerySet[Callback], *, actor: str, dry_run: bool, missing: str) -> Resent:
    ids = list(found.values_list("pk", flat=True))
    if not ids:
        raise Refused("not_found", missing)
    outcome = _resend(ids, actor=actor, dry_run=dry_run)
    if outcome.forgotten and not outcome.resent:
        raise Refused(
            "callback_url_forgotten",
            "The address was forgotten once it was called, and the chatbot has none. Set the chatbot's.",
        )
    return outcome


def _resend(ids: list[UUID], *, actor: str, dry_run: bool) -> Resent:
    values: dict[str, Any] = {
        "ids": array(ids),
        "tried": TRIED_FOR.total_seconds(),
        "kept": settings.CALLBACK_DAYS.total_seconds(),
    }
    with transaction.atomic():
        [(forgotten,)] = fetch(_FORGOTTEN, values)
        resent = fetch(_RESEND, values)
        if dry_run:
            transaction.set_rollback(True)
            return Resent(len(resent), forgotten)
        changelog.record_all(
            changelog.entry(
                "callback.resent",
                chatbot_id=chatbot_id,
                request_id=request_id,
                actor=actor,
                data={"callback": str(callback_id), "event": f"request.{event_of}"},
            )
            for callback_id, chatbot_id, request_id, event_of in resent
        )
        if resent:
            notify.after_commit(notify.enqueue_callbacks)
    return Resent(len(resent), forgotten)


def _batches(found: QuerySet[Callback]) -> Iterator[list[UUID]]:
    """Yield the ids of the present callbacks in order, so that one that is given up again is not yielded twice."""
    after = UUID(int=0)
    while ids := list(found.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:_BATCH]):
        yield ids
        after = ids[-1]
