"""One exception for each error code of the API. This file is generated: do not edit it."""

from data_compliance_client.errors import APIError


class Invalid(APIError):
    """The call is not valid (400).

    The body or a header is not what the call takes. Look at `errors`.
    """

    code = "invalid"


class UnknownUciKey(APIError):
    """The key is not a Unique Chatter Identifier of this chatbot (400).

    The key is not, and never was, the chatbot's UCI. Send the variable's name exactly.
    """

    code = "unknown_uci_key"


class NotAuthenticated(APIError):
    """The call is not authenticated (401).

    No key, an unknown, expired or revoked token, or both a token and a signature. Send one valid key.
    """

    code = "not_authenticated"


class InvalidSignature(APIError):
    """The signature is invalid (401).

    The signature is not from an active signing key of this chatbot, or the chatbot does not exist. Sign the exact
    bytes you send; check slug and secret.
    """

    code = "invalid_signature"


class StaleTimestamp(APIError):
    """The timestamp is not current (401).

    The timestamp is not within 5 minutes of our clock. Set your clock; sign each attempt again.
    """

    code = "stale_timestamp"


class ScopeMissing(APIError):
    """The key lacks the scope for this call (403).

    The key does not allow this call. Ask for a key with the scope that `detail` names.
    """

    code = "scope_missing"


class OwnRequest(APIError):
    """The request must be approved by another person (403).

    Four eyes: the person who filed cannot approve, and all keys of a chatbot count as one person. Let another
    person approve it: a request filed by a key, an officer in the console.
    """

    code = "own_request"


class OfficersOnly(APIError):
    """Only officers decide this, in the console (403).

    A retention run, or a request that is held as `restored`: a key cannot approve or reject it. Have an officer
    decide on it in the console.
    """

    code = "officers_only"


class ConversationRestricted(APIError):
    """Only officers read the conversation for now (403).

    A legal hold keeps the conversation, and a deletion or redaction of it waits for the release. Officers read it
    in the console. Send new messages and files as before.
    """

    code = "conversation_restricted"


class NotFound(APIError):
    """Not found (404).

    No such request, path, or chatbot for this token. Check the address.
    """

    code = "not_found"


class UnknownConversation(APIError):
    """There is no such conversation (404).

    In a result: no conversation with this id is stored in the chatbot. Send the conversation first.
    """

    code = "unknown_conversation"


class MethodNotAllowed(APIError):
    """The method is not allowed (405).

    The path does not support this method. See the table of calls.
    """

    code = "method_not_allowed"


class NotAcceptable(APIError):
    """Responses are JSON only (406).

    The header `Accept` excludes JSON. Send `Accept: application/json`, or no such header.
    """

    code = "not_acceptable"


class ComplianceDisabled(APIError):
    """Data compliance is switched off for this chatbot (409).

    Data compliance is off for this chatbot. Have it switched on.
    """

    code = "compliance_disabled"


class UciNotDesignated(APIError):
    """The chatbot has no Unique Chatter Identifier (409).

    The chatbot has no UCI. Have one designated.
    """

    code = "uci_not_designated"


class ExportDestinationMissing(APIError):
    """The chatbot has no bucket for exports (409).

    The chatbot has no bucket for exports. Have one set up.
    """

    code = "export_destination_missing"


class SigningKeyMissing(APIError):
    """The chatbot has no key to sign callbacks (409).

    Callbacks are signed, and the chatbot has neither a callback secret nor an active signing key. Have one created,
    or omit `callback_url`.
    """

    code = "signing_key_missing"


class CallbackUrlForgotten(APIError):
    """No callback URL is stored any more (409).

    The callbacks were delivered, so the request's URL was deleted, and the chatbot has none. Have the chatbot's
    callback URL set.
    """

    code = "callback_url_forgotten"


class CallbackUrlMissing(APIError):
    """The chatbot has no callback URL (409).

    A test callback has no address to go to. Have the chatbot's callback URL set, or send `callback_url`.
    """

    code = "callback_url_missing"


class IdempotencyConflict(APIError):
    """The Idempotency-Key was used with another body (409).

    The `Idempotency-Key` was used with another body. Use a new key for a new call.
    """

    code = "idempotency_conflict"


class AlreadyExtended(APIError):
    """The deadline was extended before (409).

    The deadline was extended, which is possible once. Answer the person in time.
    """

    code = "already_extended"


class DeadlinePassed(APIError):
    """The deadline has passed (409).

    The deadline was over before it was to be extended. Answer the person now; extend others before `due_at`.
    """

    code = "deadline_passed"


class NotExtendable(APIError):
    """The deadline cannot be extended (409).

    The request is final, or a retention run. Nothing: nobody waits for it.
    """

    code = "not_extendable"


class NotAnswerable(APIError):
    """The request has no such answer (409).

    The letter does not fit the request's state. `held` is for requests on hold, `refused` for rejected ones.
    """

    code = "not_answerable"


class NotCancellable(APIError):
    """The request can no longer be cancelled (409).

    The request has begun or is final. Follow its `status_url`.
    """

    code = "not_cancellable"


class NotHeld(APIError):
    """The request is not on hold (409).

    The request is not on hold, nor does it wait for an approval. Check its status: it may have been decided
    already.
    """

    code = "not_held"


class LegalHold(APIError):
    """A legal hold covers some of the data (409).

    No approval overrides a legal hold. Wait until the hold is released, or have it released.
    """

    code = "legal_hold"


class OwnHold(APIError):
    """The legal hold must be released by another person (409).

    Whoever placed a legal hold does not release it, and all keys of a chatbot count as one person. Have an officer
    release it in the console.
    """

    code = "own_hold"


class Released(APIError):
    """The legal hold was released (409).

    The legal hold was released before. Place another one if the data must still be kept.
    """

    code = "released"


class NotWaiting(APIError):
    """The request does not wait for the console (409).

    Nothing is left of the time that the console gives to cancel the request. Only the console's "Start now" reports
    it.
    """

    code = "not_waiting"


class InClientBucket(APIError):
    """The file is in the client's own bucket (409).

    The file is in your own bucket. Fetch it from there by its `key`.
    """

    code = "in_client_bucket"


class NotReady(APIError):
    """The file is not finished (409).

    The file is not finished, or is being rebuilt. For an export, follow the `status_url`; for a daily extract, try
    again later.
    """

    code = "not_ready"


class ExportExpired(APIError):
    """The export no longer exists (409).

    The export has expired, or a deletion or redaction removed it. File another export, or fetch the one that
    `repeated_by` names.
    """

    code = "export_expired"


class ExtractExpired(APIError):
    """The daily extract is no longer stored (409).

    The daily extract is no longer stored. An operator can have it rebuilt.
    """

    code = "extract_expired"


class NotRetryable(APIError):
    """The request cannot be retried (409).

    The request has not failed, or the chatter has been erased since. Only the command `retry_request` reports it.
    """

    code = "not_retryable"


class ConversationDeleted(APIError):
    """The conversation was deleted (410).

    In a result, for a transcript or a file: the conversation was deleted, or is being deleted. Stop sending it.
    """

    code = "conversation_deleted"


class ChatterErased(APIError):
    """The chatter was erased (410).

    In a result: it names an erased chatter in a conversation begun before the erasure. Stop sending it.
    """

    code = "chatter_erased"


class MessageRedacted(APIError):
    """The message was redacted (410).

    The message that the file came with was redacted. Stop sending the file.
    """

    code = "message_redacted"


class DownloadExpired(APIError):
    """This download has expired (410).

    The link of a download is too old, its export has expired, or its key was revoked. Ask for the download again.
    """

    code = "download_expired"


class DownloadRemoved(APIError):
    """This file was removed (410).

    A deletion or redaction has removed the file after the link was made. File another export, or fetch the one that
    `repeated_by` names.
    """

    code = "download_removed"


class TooLarge(APIError):
    """The body is too large (413).

    The body, the file or the response exceeds the limit. Send fewer documents or ids at once, or a smaller file.
    """

    code = "too_large"


class UnsupportedMediaType(APIError):
    """The media type is not supported (415).

    The body is not declared as `application/json` in UTF-8 (a file: as a form; documents: also as
    `application/x-ndjson`), or it is encoded; or files of this type are not taken. Set the header.
    """

    code = "unsupported_media_type"


class RateLimited(APIError):
    """Too many calls (429).

    The key has used its calls of this minute, or the chatbot its test callbacks, or the chatbot makes too many long
    calls at a time. Nothing was stored. Send it again after `Retry-After` seconds.
    """

    code = "rate_limited"


class Internal(APIError):
    """The service failed; quote trace_id when you report it (500).

    An error of the service. Report it with its `trace_id`. Sending it again is safe with an `Idempotency-Key`.
    """

    code = "internal"


class Unavailable(APIError):
    """The service is unavailable for now (503).

    The database or the storage did not serve the call, or the signature cannot be checked for now. Send it again
    after `Retry-After` seconds.
    """

    code = "unavailable"


class RestoredDatabase(APIError):
    """The service is closed: its database was restored from a backup (503).

    The database was restored from a backup, and contains people who were erased since. Nothing is taken, shown or
    carried out until the operator has had them erased again, be it of this chatbot alone. Wait for the operator;
    there is no `Retry-After`. Then send again what you have sent since the backup.
    """

    code = "restored_database"


class CatchingUp(APIError):
    """The service is catching up after a failover of its database (503).

    The database had a failover and lacks the last changes. Erasures among them are being repeated. Send it again
    after `Retry-After` seconds.
    """

    code = "catching_up"
