"""Legal holds in tests, and a guard of their own in the database.

The guard is a trigger for each table that has originals. It refuses every statement that marks, empties or deletes an
unmarked conversation under a hold, whatever code has sent it. It decides by itself what a hold covers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

from chatbots.models import Chatbot
from compliance import holds
from compliance.hold_coverage import Coverage
from compliance.holds import HoldInput
from compliance.models import LegalHold
from compliance.requests.selectors import ByConversations, ByUci
from tests.under_roles import role

PLACER, OTHER = "user:71", "user:72"

_GUARD = """
CREATE OR REPLACE FUNCTION tests_is_held(conversation bigint) RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (
        SELECT FROM conversations_conversation c JOIN compliance_legalhold h ON h.chatbot_id = c.chatbot_id
         WHERE c.id = conversation AND c.deletion_request_id IS NULL AND h.released_at IS NULL
           AND c.started_at >= coalesce(h.began_from, '-infinity')
           AND c.started_at < coalesce(h.began_before, 'infinity')
           AND (h.scope = 'chatbot'
                OR c.external_id_digest IN (SELECT digest FROM compliance_legalholdconversation WHERE hold_id = h.id)
                OR (h.variable_id, h.uci_digest) IN (
                    SELECT variable_id, digest FROM conversations_identity WHERE conversation_id = c.id)))
$$;
CREATE OR REPLACE FUNCTION tests_refuse_held() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE conversation bigint;
BEGIN
    conversation := CASE TG_TABLE_NAME WHEN 'conversations_conversation' THEN OLD.id
                                       ELSE (to_jsonb(OLD) ->> 'conversation_id')::bigint END;
    IF tests_is_held(conversation) THEN
        RAISE EXCEPTION 'a legal hold covers this row of %', TG_TABLE_NAME;
    END IF;
    RETURN coalesce(NEW, OLD);
END $$;
"""
_IS_MARKED = "OLD.deletion_request_id IS NULL AND NEW.deletion_request_id IS NOT NULL"
_LOSES_COMMENT = "OLD.csat_comment IS NOT NULL AND NEW.csat_comment IS NULL"
_TRIGGERS = {
    "conversations_conversation": ("UPDATE", f"({_IS_MARKED}) OR ({_LOSES_COMMENT})"),
    "conversations_message": ("UPDATE", "NEW.kind = 'redacted' AND OLD.kind <> 'redacted'"),
    "conversations_identity": ("UPDATE", "OLD.value IS NOT NULL AND NEW.value IS NULL"),
    "conversations_uploadedfile": ("UPDATE", "NEW.state = 'removing' AND OLD.state <> 'removing'"),
}
_DELETED = ("conversation", "message", "identity", "variablevalue", "uploadedfile")


@contextmanager
def guarded() -> Iterator[None]:
    """Have PostgreSQL refuse whatever destroys data under a hold."""
    statements = [_GUARD]
    for table, (what, condition) in _TRIGGERS.items():
        statements.append(
            f"CREATE OR REPLACE TRIGGER tests_held BEFORE {what} ON {table} FOR EACH ROW WHEN ({condition})"
            " EXECUTE FUNCTION tests_refuse_held()"
        )
    statements += [
        f"CREATE OR REPLACE TRIGGER tests_held_row BEFORE DELETE ON conversations_{name} FOR EACH ROW"
        " EXECUTE FUNCTION tests_refuse_held()"
        for name in _DELETED
    ]
    with role("owner"), connection.cursor() as cursor:
        cursor.execute(";".join(statements))
    try:
        yield
    finally:
        with role("owner"), connection.cursor() as cursor:
            cursor.execute(
                "DROP FUNCTION IF EXISTS tests_refuse_held CASCADE; DROP FUNCTION IF EXISTS tests_is_held CASCADE"
            )


def place(
    chatbot: Chatbot,
    subject: str | list[str] | None = "42",
    *,
    matter: str = "case-0815",
    actor: str = PLACER,
    began_from: datetime | None = None,
    began_before: datetime | None = None,
) -> tuple[LegalHold, Coverage]:
    """Place a hold on a chatter, on conversations, or on the whole chatbot."""
    selector = None
    if subject is not None:
        by_value = isinstance(subject, str)
        selector = ByUci("member_id", str(subject)) if by_value else ByConversations(tuple(subject))
    given = HoldInput(
        selector=selector,
        matter=matter,
        basis="legal_claims",
        review_at=timezone.now() + timedelta(days=90),
        began_from=began_from,
        began_before=began_before,
    )
    hold, coverage, _ = holds.place(chatbot=chatbot, given_input=given, actor=actor)
    return hold, coverage


def release(hold: LegalHold, *, actor: str = OTHER) -> list[str]:
    """Release a hold, and return the requests that continue."""
    _, free = holds.release(chatbot=hold.chatbot, hold_id=hold.pk, reason="matter_closed", actor=actor)
    return [str(request_id) for request_id in free]
