"""Queue look-ups of identities at a chatbot's resolver (`chatbots.models.Resolver`), in intake's transaction.

A conversation is looked up once it has a value for each variable that is sent, and no identity. Old conversations are
not looked up: their sessions with the client are over.

A conversation with an identity, or with an earlier look-up, is looked up again when one of these values changes:
another person may chat since. If it has an identity, or a former value had no answer, the look-up is in doubt. It has
no `expires_at`, and exports leave the conversation out (`assurance`). A value that was replaced before it had an
answer is never sent, so the doubt stays (`has_gap`).
"""

import json
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings

from common.db import execute
from conversations.merge import DeclaredVariables, MergedConversation

# The highest age of a conversation at its first look-up, and the longest time for which a look-up is tried.
LOOKED_UP_WITHIN = timedelta(days=1)

# Intake has locked the conversations' rows, so no other intake queues them meanwhile. A worker that looks up a former
# value loses its lease. The rows are read in a WITH of its own: otherwise Citus makes the machine create the ids, by
# a sequence there, for which the web server has no right.
_QUEUE = """
WITH due AS MATERIALIZED (
    SELECT new.number, new.changed AND is_named AS of_another,
           new.skipped OR (l.state IN ('pending', 'failed')
                           AND (l.in_doubt OR new.is_named_now OR NOT is_named)) IS TRUE AS has_gap
      FROM json_to_recordset(%(new)s::json)
             AS new(number bigint, started_at timestamptz, changed boolean, skipped boolean, is_named_now boolean)
     CROSS JOIN LATERAL (
           SELECT EXISTS (SELECT FROM conversations_identity i
                           WHERE i.chatbot_id = %(chatbot)s AND i.conversation_id = new.number) AS is_named
           ) AS i
      LEFT JOIN LATERAL (
           SELECT state, expires_at IS NULL AS in_doubt FROM conversations_identitylookup
            WHERE chatbot_id = %(chatbot)s AND conversation_id = new.number) AS l ON TRUE
     WHERE CASE WHEN is_named OR l.state IS NOT NULL THEN new.changed
                ELSE new.started_at > now() - make_interval(secs => %(tried)s) END
)
INSERT INTO conversations_identitylookup AS lookup
       (chatbot_id, conversation_id, state, attempts, queued_at, next_attempt_at, give_up_at, last_error, has_gap,
        expires_at)
SELECT %(chatbot)s, due.number, 'pending', 0, now(), now(), now() + make_interval(secs => %(tried)s), '', due.has_gap,
       CASE WHEN NOT (due.of_another OR due.has_gap) THEN now() + make_interval(secs => %(tried)s + %(kept)s) END
  FROM due
    ON CONFLICT ON CONSTRAINT identitylookup_once
    DO UPDATE SET state = excluded.state, attempts = excluded.attempts, queued_at = excluded.queued_at,
                  next_attempt_at = excluded.next_attempt_at, give_up_at = excluded.give_up_at,
                  last_error = excluded.last_error, has_gap = lookup.has_gap OR excluded.has_gap,
                  expires_at = CASE WHEN NOT lookup.has_gap THEN excluded.expires_at END, token = NULL,
                  finished_at = NULL
"""


def queue(*, chatbot_id: int, conversations: Iterable[MergedConversation], declared: DeclaredVariables) -> None:
    """Queue the just written conversations that need a look-up."""
    sent = declared.looked_up_by
    new = [
        {
            "number": one.number,
            "started_at": one.row.started_at.isoformat(),
            "changed": not sent.isdisjoint(one.changed_variables),
            "skipped": not sent.isdisjoint(one.skipped_variables),
            # An identity that came with this value proves nothing about the former value.
            "is_named_now": bool(one.new_identities),
        }
        for one in conversations
        if one.row.deletion_request_id is None
        and one.row.uci_variable_id == declared.uci_id
        and not (one.known_identities and sent.isdisjoint(one.changed_variables))
        and (not sent.isdisjoint(one.skipped_variables) or all(_has_value(one, variable) for variable in sent))
    ]
    if new:
        values = {
            "chatbot": chatbot_id,
            "new": json.dumps(new),
            "tried": LOOKED_UP_WITHIN.total_seconds(),
            "kept": settings.VARIABLE_DAYS.total_seconds(),
        }
        execute(_QUEUE, values)


def _has_value(conversation: MergedConversation, variable_id: int) -> bool:
    """Return whether there is a value. Placeholders do not count: a client could take all of them for one person."""
    known = conversation.known_values.get(variable_id)
    return known is not None and known.value not in settings.UCI_PLACEHOLDERS
