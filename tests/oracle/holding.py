"""Legal holds of clients: of a chatter under one nothing is erased before the release, whatever is filed."""

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.oracle.client_state import ClientState
from tests.oracle.filing import deletion_of, file
from tests.oracle.model import Request, now

if TYPE_CHECKING:
    from tests.operated import Operated

# What has a mark, or has lost a text.
_MARKED = """
SELECT count(*) FROM conversations_conversation WHERE id = ANY(%s) AND deletion_request_id IS NOT NULL
"""
_TEXTS = "SELECT count(*) FROM conversations_message WHERE conversation_id = ANY(%s) AND text <> ''"


def delete_under_hold(state: ClientState, value: str, *flags: str) -> Request | None:
    """Place a legal hold on a chatter, and file the deletion. None if an erasure of their data is under way."""
    conversations = state.conversations_of(value)
    if state.open_erasures(value=value) or any(state.open_erasures(conversation=each) for each in conversations):
        return None
    body = state.naming(value) | {"matter": "CASE-0815", "basis": "legal_claims"}
    body["review_at"] = str((now() + timedelta(days=90)).date())
    shown = state.caller.post("legal hold", "legal-holds", body, ok=(200, 201)).body
    request = deletion_of(state, value, *flags)
    # Others of the chatter may be closed at this time, since they have come late.
    if shown["held"] < len(request.surely):
        state.report("hold", f"of {len(request.surely)} conversations a hold covers {shown['held']}", request)
    request.hold = shown["hold_id"]
    return file(state, request)


def release(site: "Operated", state: ClientState, request: Request) -> None:
    """Check that what a held deletion is about is all there, and release the hold as an operator does."""
    if not request.is_released:
        numbers = [each.number for each in request.surely]
        texts = sum(len(each.texts.keys() - each.redacted.keys()) for each in request.surely)
        [(marked,)], [(stored,)] = site.sql(_MARKED, [numbers]), site.sql(_TEXTS, [numbers])
        if marked or stored < texts:
            told = f"{marked} conversations are being erased, and {stored} of {texts} texts are left"
            state.report("hold", f"under a legal hold {told}", request)
        request.is_released = True
    # 2: a former attempt had no answer.
    site.manage("release_hold", request.hold, "--reason", "matter_closed", ends=(0, 2))
    request.hold = ""
