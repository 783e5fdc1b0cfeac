"""The queue of callbacks: finds the due ones, and processes the outcomes of their calls."""

import logging
import ssl
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper

from chatbots import changelog
from chatbots.callback_secrets import Signers
from common import outbound
from common.db import array, distinct, execute, fetch_in_index_order
from compliance.callbacks.client import Failure, Outcome, body_of, call_to
from compliance.callbacks.deadline_events import EVENT_OF, STILL_HOLDS
from compliance.models import Callback, ComplianceRequest
from compliance.work import dispatcher
from compliance.work.call_queue import Call, Ending, Queue, Receiver, Receivers, Row

logger = logging.getLogger(__name__)

State = Callback.State
Status = ComplianceRequest.Status

# The receiver's status for an address that is gone for good.
_GONE = 410

# Chatbots with due callbacks, found by skipping along the index instead of reading all waiting ones.
_CHATBOTS = f"""
SELECT waiting.value
  FROM ({distinct("compliance_callback", "chatbot_id", "state = 'waiting'")}) AS waiting
 WHERE EXISTS (SELECT FROM compliance_callback c
                WHERE c.state = 'waiting' AND c.chatbot_id = waiting.value
                  AND c.next_attempt_at <= statement_timestamp())
"""  # noqa: S608  (texts of ours)

# A request needs no address any more, once its final state was delivered or given up.
_FORGET = "UPDATE compliance_compliancerequest SET callback_url = '' WHERE id = ANY(%s) AND callback_url <> ''"
_FINAL = (Status.COMPLETED, Status.REJECTED, Status.CANCELLED)

RECEIVERS = Receivers()


class Callbacks(Queue[Callback, Outcome]):
    name = "callback"
    receivers = RECEIVERS
    model = Callback
    waits, gives_up, rests = State.WAITING.value, State.GIVEN_UP.value, Failure.RECEIVER_RESTING.value
    first_wait, longest_wait = timedelta(seconds=30), timedelta(hours=2)
    # An earlier event of the same request goes first, while it is due or being sent; not while it waits for another
    # attempt, so that an undeliverable event does not delay the others. (Only waiting rows have a time or a token.
    # With a condition on the state too, PostgreSQL without statistics reads all waiting rows to find these few.)
    may_go = """NOT EXISTS (
               SELECT FROM compliance_callback earlier
                WHERE earlier.request_id = c.request_id AND earlier.occurred_at < c.occurred_at
                  AND (earlier.token IS NOT NULL OR earlier.next_attempt_at <= statement_timestamp()))"""
    is_of_receiver = """starts_with(
        coalesce(nullif(c.url, ''), (SELECT callback_url FROM chatbots_chatbot WHERE id = c.chatbot_id)),
        %(receiver)s)"""
    # Never distributed. With a condition on the chatbot PostgreSQL may read all its callbacks to find these.
    in_place = "TRUE"
    # Callbacks that were delivered or given up need no address any more.
    changes = """last_status = CASE %(calls)s WHEN 0 THEN c.last_status ELSE held.status END,
       url = CASE held.state WHEN 'waiting' THEN c.url ELSE '' END,
       delivered_at = CASE held.state WHEN 'delivered' THEN held.at END"""
    reported = f"c.id, c.chatbot_id, c.request_id, {EVENT_OF}, c.state, c.attempts, c.last_status, c.last_error"

    def due_chatbots(self) -> list[int]:
        return [chatbot for (chatbot,) in fetch_in_index_order(_CHATBOTS)]

    def read(self, token: UUID, rows: Sequence[Row]) -> list[Callback]:
        # Of a request, but not its chatter.
        fields = [field.name for field in Callback._meta.local_fields]
        ours = Callback.objects.only(
            *fields, "request__kind", "request__reference", "chatbot__slug", "chatbot__callback_url"
        )
        holds = ExpressionWrapper(STILL_HOLDS, output_field=BooleanField())
        ours = ours.select_related("request", "chatbot").annotate(holds=holds)
        found = ours.in_bulk([row.id for row in rows])
        self.drop(token, [one for one in found.values() if not vars(one)["holds"]])
        if orphans := [row for row in rows if row.id not in found]:
            # If tables are distributed, no foreign key prevents the deletion of a chatbot by hand. No key signs its
            # callbacks, so they would be due again and again.
            self.drop(token, orphans)
            logger.warning("callback.without_chatbot callbacks=%s", ",".join(str(row.id) for row in orphans))
        held = [one for one in found.values() if vars(one)["holds"]]
        # Its address was removed since.
        missing = Ending(State.GIVEN_UP, Failure.ADDRESS_MISSING)
        self.end(token, [(one, missing) for one in held if not one.address], calls=0)
        return [one for one in held if one.address]

    def call(self, due: Callback, *, signers: Signers, tls: ssl.SSLContext) -> Call[Outcome]:
        body, seconds = body_of(due), outbound.CALLBACK_SECONDS
        return call_to(due.address, callback_id=due.id, body=body, seconds=seconds, signers=signers, tls=tls)

    def receiver_of(self, due: Callback) -> Receiver:
        return due.chatbot_id, due.receiver or ""

    def unsigned(self, code: str) -> Outcome:
        return Outcome(error=Failure(code))

    def note(self, token: UUID, outcomes: Sequence[tuple[Callback, Outcome]]) -> None:
        self.end(token, [(callback, _ending_of(outcome)) for callback, outcome in outcomes])

    def recorded(self, rows: Sequence[tuple[Any, ...]]) -> None:
        over = [row[2] for row in rows if row[3] in _FINAL and row[4] != State.WAITING]
        if over:
            execute(_FORGET, [array(over)])
        entries = []
        for callback_id, chatbot_id, request_id, event_of, state, attempts, answer, error in rows:
            if state == State.GIVEN_UP:
                data = {"callback": str(callback_id), "event": f"request.{event_of}"}
                data |= {"code": error, "attempts": attempts}
                entries.append(
                    changelog.entry(
                        "callback.given_up", chatbot_id=chatbot_id, request_id=request_id, actor="worker", data=data
                    )
                )
            if state == State.DELIVERED:
                logger.info("callback.delivered callback=%s attempts=%s", callback_id, attempts)
            elif error != self.rests or state == State.GIVEN_UP:
                event = "callback.given_up" if state == State.GIVEN_UP else "callback.attempt_failed"
                logger.warning(
                    "%s callback=%s code=%s status=%s attempts=%s", event, callback_id, error, answer, attempts
                )
        changelog.record_all(entries)

    def has_answered(self, outcome: Outcome) -> bool | None:
        if outcome.status == _GONE:  # it concerns one address, not its host
            return None
        return outcome.error is None


def _ending_of(outcome: Outcome) -> Ending:
    if outcome.error is None:
        return Ending(State.DELIVERED, status=outcome.status)
    state = State.GIVEN_UP if outcome.status == _GONE else State.WAITING
    return Ending(state, outcome.error, outcome.status)


def deliver(*, seconds: float = dispatcher.TURN_SECONDS) -> bool:
    """Send callbacks that are due until none is, or the time is over; return whether some may be left.

    Callbacks that a killed worker was sending are sent again when their lease is over: each event is delivered at
    least once.
    """
    return dispatcher.run([Callbacks()], seconds=seconds)
