"""The conversation document: the JSON that a platform sends, validated before anything else reads it.

`parse_document` takes bytes and returns a `Document`, or raises `DocumentInvalid` with all errors of the document.
Codes are stable, and listed in docs/clients/send-conversations.md; details are our own texts and never quote the
document. Intake adds the codes that need stored data: `out_of_range` (a time that would be stored, more than a day
from now), `undeclared_variable`, `wrong_category`, `invalid_identity_token`, `identity_mismatch`,
`conversation_deleted`, `chatter_erased`.

`null` counts as absent: a `Document` may hold None where a field may be missing. Two messages with one id are
refused, not merged: one of them would be lost silently.

TypedDicts, not models: measured at a third of the time per message.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, Literal, Required

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticCustomError, from_json
from typing_extensions import TypedDict

from chatbots.identity_tokens import MAX_CHARACTERS
from common.bodies import outline_of_body
from common.problems import MOST_ERRORS, FieldError, error_at, field_errors, truncate_errors
from common.times import MOST_AHEAD, Instant

MAX_MESSAGES = 100_000
MAX_TEXT = 100_000
MAX_VARIABLES = 1_000


def _one_decimal(score: float) -> Decimal:
    if round(score, 1) != score:
        raise PydanticCustomError("too_precise", "One decimal at most.")
    return Decimal(str(score))


Id = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Score = Annotated[float, Field(ge=1, le=10, allow_inf_nan=False), AfterValidator(_one_decimal)]
Variables = Annotated[dict[str, Annotated[str, Field(max_length=10_000)] | None], Field(max_length=MAX_VARIABLES)]

# Its length is verified with the rest of it (`chatbots.identity_tokens`), so that there is one code.
IdentityToken = Annotated[
    str,
    Field(
        description="A compact JWS in which your backend signs who the chatter is, with an identity key. "
        "Header: `kid`, and the key's `alg` (`HS256`, `ES256` or `RS256`). Claims: `sub` (the value), `uci_key` (the "
        "name of the conversation's UCI), `aud` (the chatbot's public id), `iat` and `exp` (24 hours later at most), "
        "optionally `nbf` and `conversation_id` (the document's `id`). It is neither stored nor logged.",
        json_schema_extra={"maxLength": MAX_CHARACTERS},
    ),
]

_STRICT = ConfigDict(strict=True, extra="forbid")


@with_config(_STRICT)
class Message(TypedDict):
    id: Id
    sender: Literal["user", "bot", "agent"]
    kind: Literal["text", "quick_reply", "push", "file", "event"]
    text: Text
    sent_at: Instant


@with_config(_STRICT)
class Csat(TypedDict, total=False):
    score: Annotated[int, Field(ge=0, le=10)] | None
    vote: Literal["positive", "neutral", "negative"] | None
    comment: Text | None


@with_config(_STRICT)
class Document(TypedDict, total=False):
    id: Required[Id]
    channel: Literal["widget", "whatsapp", "messenger", "wechat", "messaging_api", "other"] | None
    language: Annotated[str, Field(max_length=35)] | None
    user_name: Annotated[str, Field(max_length=200)] | None
    started_at: Instant | None
    user_channel_variables: Variables | None
    custom_variables: Variables | None
    identity_token: IdentityToken | None
    agent_handover: bool | None
    push: bool | None
    score: Score | None
    csat: Csat | None
    messages: Annotated[list[Message], Field(max_length=MAX_MESSAGES)] | None


class DocumentInvalid(Exception):
    """A document that cannot be stored, with MOST_ERRORS errors at most.

    `document_id` is the platform's id if it could be read.
    """

    def __init__(self, errors: Sequence[FieldError], *, document_id: str | None = None) -> None:
        super().__init__(f"{len(errors)} error(s) in a conversation document")
        self.errors = tuple(truncate_errors(errors, MOST_ERRORS))
        self.document_id = document_id


def parse_document(raw: bytes) -> Document:
    """Parse one conversation document. Raises DocumentInvalid with at most MOST_ERRORS errors."""
    try:
        document = _ADAPTER.validate_json(raw)
    except ValidationError as error:
        errors = errors_of(error)
    else:
        has_repeats = _has_repeats(document, raw)
        if _is_plain(document, raw) and not has_repeats:
            return document
        errors = [error_at((), "repeated_name", "An object has a name twice.")] if has_repeats else []
    data = None if errors and errors[0].code == "not_json" else from_json(raw)
    errors += _content_errors(data)
    # Raised outside the except block: its context would contain the document.
    if errors:
        raise DocumentInvalid(errors, document_id=_readable_id(data))
    return document


def document_or_errors(raw: bytes) -> Document | DocumentInvalid:
    try:
        return parse_document(raw)
    except DocumentInvalid as invalid:
        return invalid


def errors_of(error: ValidationError) -> list[FieldError]:
    first = error.errors(include_url=False)[0] if error.error_count() == 1 else None
    if first and first["type"] == "json_invalid":
        return [FieldError("", "not_json", _not_json(first["ctx"]["error"]))]
    return field_errors(error, null_is_absent=True)


def token_error(detail: str) -> FieldError:
    """Build the error of a document whose identity token proves nothing."""
    return error_at(("identity_token",), "invalid_identity_token", detail)


# The JSON types that are texts.
_TEXTS = (str, datetime)
# All of them are texts, and required.
_MESSAGE_FIELDS = len(Message.__annotations__)
_POSITION = re.compile(r" at line ([0-9]+) column ([0-9]+)$")

_ADAPTER: TypeAdapter[Document] = TypeAdapter(Document)


def _not_json(reason: str) -> str:
    found = _POSITION.search(reason)
    where = f" (line {found[1]}, column {found[2]})" if found else ""
    return f"Must be one well-formed JSON object in UTF-8, not nested too deeply{where}."


def _is_plain(document: Document, raw: bytes) -> bool:
    """Return whether `_content_errors` cannot find anything: JSON can write a NUL only as this escape."""
    messages = document.get("messages") or ()
    return b"\\u0000" not in raw and len({message["id"] for message in messages}) == len(messages)


def too_far_ahead(document: Document, *, known: Collection[str] | None) -> tuple[FieldError, ...]:
    """Return the errors of times that would be stored but are too far in the future: retention counts from these
    times.

    `known` are the ids of the messages of a stored conversation; None for a new one.
    """
    latest = datetime.now(UTC) + MOST_AHEAD
    messages, started_at = document.get("messages") or (), document.get("started_at")
    paths: list[tuple[str | int, ...]] = []
    if known is None and started_at and started_at > latest:
        paths.append(("started_at",))
    if messages and max(one["sent_at"] for one in messages) > latest:
        ahead = [(at, one["id"]) for at, one in enumerate(messages) if one["sent_at"] > latest]
        paths += [("messages", at, "sent_at") for at, message_id in ahead if message_id not in (known or ())]
    errors = [error_at(path, "out_of_range", "Must not be more than a day from now.") for path in paths]
    return tuple(truncate_errors(errors, MOST_ERRORS))


def _has_repeats(document: Document, raw: bytes) -> bool:
    """Return whether an object of the text has a name twice. The parser has read only one of them."""
    messages = document.get("messages") or ()
    variables = (document.get("user_channel_variables"), document.get("custom_variables"))
    objects: list[Mapping[str, Any]] = [document, *filter(None, (*variables, document.get("csat")))]
    names = sum(map(len, objects)) + len(messages) * _MESSAGE_FIELDS
    texts = sum(isinstance(value, _TEXTS) for one in objects for value in one.values())
    texts += len(messages) * _MESSAGE_FIELDS
    # Two quotes for each name and text, and one for each within them, unless it is written as a number. Counting
    # them costs a fraction of the outline.
    others = raw.count(b'"') - 2 * (names + texts)
    if not others or (others == _quotes_within(objects, messages) and b"\\u0022" not in raw):
        return False
    return outline_of_body(raw, most=len(raw)).count(b":") > names


def _quotes_within(objects: Iterable[Mapping[str, Any]], messages: Iterable[Message]) -> int:
    found = sum(message["text"].count('"') + message["id"].count('"') for message in messages)
    for one in objects:
        found += sum(name.count('"') for name in one)
        found += sum(value.count('"') for value in one.values() if isinstance(value, str))
    return found


def _content_errors(data: Any) -> list[FieldError]:
    """Return errors that the types cannot express: NUL characters and repeated message ids, in any JSON."""
    detail = "Must not hold the character NUL."
    paths = islice(_paths_to_nul(data, ()), MOST_ERRORS)
    errors = [error_at(path, "nul_character", detail) for path in paths]
    messages = data.get("messages") if isinstance(data, dict) else None
    if isinstance(messages, list):
        errors += islice(_repeated_ids(messages), MOST_ERRORS)
    return errors


def _paths_to_nul(data: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(data, str):
        if "\0" in data:
            yield path
    elif isinstance(data, dict):
        for name, value in data.items():
            if "\0" in name:
                yield path
            yield from _paths_to_nul(value, (*path, name))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _paths_to_nul(value, (*path, index))


def _repeated_ids(messages: list[Any]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, message in enumerate(messages):
        message_id = message.get("id") if isinstance(message, dict) else None
        if not isinstance(message_id, str):
            continue
        if message_id in seen:
            detail = "An earlier message of this document has the same id."
            yield error_at(("messages", index, "id"), "repeated_id", detail)
        seen.add(message_id)


def _readable_id(data: Any) -> str | None:
    document_id = data.get("id") if isinstance(data, dict) else None
    if isinstance(document_id, str) and 0 < len(document_id) <= 200 and "\0" not in document_id:
        return document_id
    return None
