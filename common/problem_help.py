"""What each error code means and what to do about it: for `/api/docs/errors` and the table in docs/api.md."""

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
    "invalid": Help("The body or a header is not what the call takes.", "Look at `errors`."),
    "unknown_uci_key": Help("The key is not, and never was, the chatbot's UCI.", "Send the variable's name exactly."),
    "not_authenticated": Help(
        "No key, an unknown, expired or revoked token, or both a token and a signature.", "Send one valid key."
    ),
    "invalid_signature": Help(
        "The signature is not from an active signing key of this chatbot, or the chatbot does not exist.",
        "Sign the exact bytes you send; check slug and secret.",
    ),
    "stale_timestamp": Help(
        "The timestamp is not within 5 minutes of our clock.", "Set your clock; sign each attempt again."
    ),
    "scope_missing": Help("The key does not allow this call.", "Ask for a key with the scope that `detail` names."),
    "own_request": Help(
        "Four eyes: the person who filed cannot approve, and all keys of a chatbot count as one person.",
        "Let another person approve it: a request filed by a key, an officer in the console.",
    ),
    "not_found": Help("No such request, path, or chatbot for this token.", "Check the address."),
    "method_not_allowed": Help("The path does not support this method.", "See the table of calls."),
    "not_acceptable": Help(
        "The header `Accept` excludes JSON.", "Send `Accept: application/json`, or no such header."
    ),
    "compliance_disabled": Help("Data compliance is off for this chatbot.", "Have it switched on."),
    "uci_not_designated": Help("The chatbot has no UCI.", "Have one designated."),
    "export_destination_missing": Help("The chatbot has no bucket for exports.", "Have one set up."),
    "signing_key_missing": Help(
        "Callbacks are signed, and the chatbot has neither a callback secret nor an active signing key.",
        "Have one created, or omit `callback_url`.",
    ),
    "callback_url_forgotten": Help(
        "The callbacks were delivered, so the request's URL was deleted, and the chatbot has none.",
        "Have the chatbot's callback URL set.",
    ),
    "idempotency_conflict": Help(
        "The `Idempotency-Key` was used with another body.", "Use a new key for a new call."
    ),
    "not_cancellable": Help("The request has begun or is final.", "Follow its `status_url`."),
    "in_client_bucket": Help("The file is in your own bucket.", "Fetch it from there by its `key`."),
    "not_ready": Help(
        "The file is not finished, or is being rebuilt.",
        "For an export, follow the `status_url`; for a daily extract, try again later.",
    ),
    "export_expired": Help("The export has expired, or a deletion removed it.", "File another export."),
    "not_held": Help("The request is not on hold.", "Check its status: it may have been decided already."),
    "not_retryable": Help(
        "The request has not failed, or the chatter has been erased since.",
        "Only the command `retry_request` reports it.",
    ),
    "extract_expired": Help("The daily extract is no longer stored.", "An operator can have it rebuilt."),
    "conversation_deleted": Help(
        "In a result, for a transcript or a file: the conversation was deleted, or is being deleted.",
        "Stop sending it.",
    ),
    "chatter_erased": Help(
        "In a result: it names an erased chatter in a conversation begun before the erasure.", "Stop sending it."
    ),
    "too_large": Help(
        "The body, the file or the response exceeds the limit.",
        "Send fewer documents or ids at once, or a smaller file.",
    ),
    "unsupported_media_type": Help(
        "The body is not declared as `application/json` in UTF-8 (a file: as a form; documents: also as "
        "`application/x-ndjson`), or it is encoded; or files of this type are not taken.",
        "Set the header.",
    ),
    "rate_limited": Help(
        "The key has used its calls of this minute. Nothing was stored.", "Send it again after `Retry-After` seconds."
    ),
    "internal": Help(
        "An error of the service.",
        "Report it with its `request_id`. Sending it again is safe with an `Idempotency-Key`.",
    ),
    "unavailable": Help(
        "The database or the storage did not serve the call, or the signature cannot be checked for now.",
        "Send it again after `Retry-After` seconds.",
    ),
}
