"""What each error code means and what to do about it: for the page `/api/docs/errors` and the table in docs/api.md.

A test compares the two word by word.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString


class Help(NamedTuple):
    """Two sentences, with code in backticks."""

    meaning: str
    remedy: str


def with_code(text: str) -> SafeString:
    """Return a text as HTML, with code in place of backticks."""
    parts = re.split(r"`([^`]*)`", text)
    pairs = zip(parts[::2], [*parts[1::2], ""], strict=True)
    return format_html_join(
        "", "{}{}", ((plain, format_html("<code>{}</code>", code) if code else "") for plain, code in pairs)
    )


HELP: Mapping[str, Help] = {
    "invalid": Help(
        "The body or a header is not what the call takes.",
        "Look at `errors`.",
    ),
    "unknown_uci_key": Help(
        "The key is not, and never was, the chatbot's UCI.",
        "Send the variable's name exactly.",
    ),
    "not_authenticated": Help(
        "No key, or a token that is unknown, expired or ended; or token and signature together.",
        "Send one valid key.",
    ),
    "invalid_signature": Help(
        "No active signing key of this chatbot made this signature. Also for a chatbot that does not exist.",
        "Sign the exact bytes you send; check slug and secret.",
    ),
    "stale_timestamp": Help(
        "The timestamp is not within 5 minutes of our clock.",
        "Set your clock; sign anew for each try.",
    ),
    "scope_missing": Help(
        "The key does not allow this call.",
        "Ask for a key with the scope that `detail` names.",
    ),
    "own_request": Help(
        "Four eyes: whoever filed cannot approve, and all keys of a chatbot are one.",
        "Let another person approve: what a key has filed, an officer in the console.",
    ),
    "not_found": Help(
        "No such request, path, or chatbot for this token.",
        "Check the address.",
    ),
    "method_not_allowed": Help(
        "Another method.",
        "See the table of calls.",
    ),
    "not_acceptable": Help(
        "You accept no JSON.",
        "Send `Accept: application/json` or none.",
    ),
    "compliance_disabled": Help(
        "Data compliance is off for this chatbot.",
        "Have it switched on.",
    ),
    "uci_not_designated": Help(
        "The chatbot has no UCI.",
        "Have one designated.",
    ),
    "export_destination_missing": Help(
        "The chatbot has no bucket for exports.",
        "Have one set up.",
    ),
    "signing_key_missing": Help(
        "Callbacks are signed, and the chatbot has neither a callback secret nor an active signing key.",
        "Have one made, or leave `callback_url` out.",
    ),
    "callback_url_forgotten": Help(
        "The callbacks were delivered, so the request's address is forgotten, and the chatbot has none.",
        "Have the chatbot's address set.",
    ),
    "idempotency_conflict": Help(
        "The `Idempotency-Key` came with another body before.",
        "Use a new key for a new call.",
    ),
    "not_cancellable": Help(
        "The request has begun or is final.",
        "Follow its `status_url`.",
    ),
    "in_client_bucket": Help(
        "The file lies in your own bucket.",
        "Fetch it there, under its `key`.",
    ),
    "not_ready": Help(
        "The file is not finished, or is being made again.",
        "Of an export follow the `status_url`; of a daily extract ask again later.",
    ),
    "export_expired": Help(
        "The export's days are over, or a deletion has removed it.",
        "File another export.",
    ),
    "not_held": Help(
        "The request is not on hold.",
        "Look at its status: someone may have decided already.",
    ),
    "not_retryable": Help(
        "The request has not failed, or the chatter was erased since.",
        "Told by `retry_request`; no call gives it yet.",
    ),
    "extract_expired": Help(
        "The daily extract is no longer kept.",
        "An operator can have it made once more.",
    ),
    "conversation_deleted": Help(
        "In a result, for a transcript or a file: the conversation was deleted, or is being deleted.",
        "Stop sending it.",
    ),
    "chatter_erased": Help(
        "In a result: it names an erased chatter in a conversation begun before the erasure.",
        "Stop sending it.",
    ),
    "too_large": Help(
        "The body or the file is over the limit, or the answer would be.",
        "Send fewer documents or ids at once, or a smaller file.",
    ),
    "unsupported_media_type": Help(
        "The body is not declared as `application/json` in UTF-8 (a file: as a form; documents: also as "
        "`application/x-ndjson`), or it is encoded; or files of this type are not taken.",
        "Set the header.",
    ),
    "rate_limited": Help(
        "The key has made its calls of this minute. Nothing was stored.",
        "Send it again after `Retry-After` seconds.",
    ),
    "internal": Help(
        "Our fault.",
        "Report it with its `request_id`. Sending it again is safe with an `Idempotency-Key`.",
    ),
    "unavailable": Help(
        "The database or the storage did not serve the call, or the signature cannot be checked for now.",
        "Send it again after `Retry-After` seconds.",
    ),
}
