"""Request bodies. They are strict, so that the subject of an erasure is never guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from rest_framework.request import Request

from chatbots.api.views import json_body
from chatbots.authentication import body_of
from chatbots.callback_urls import MOST_CHARACTERS, canonical_url
from chatbots.models import Chatbot
from common.bodies import parse_json
from common.network_guard import UrlRefused
from common.problems import FieldError, Problem, field_errors
from common.texts import ERRORS, REFERENCE, WITHOUT_NUL
from compliance.api.selector_body import INSTANT, ONE_SELECTOR, PlatformId, SelectorBase, StrictBody
from compliance.models import ComplianceRequest, Redaction
from compliance.models.notes import MOST_CHARACTERS_OF_NOTE
from compliance.requests.inputs import RequestInput
from compliance.requests.reasons import ApproveReason, CancelReason, Letter, RejectReason
from compliance.requests.selectors import MOST_IDS
from compliance.requests.submit import MAX_BATCH

Kind = ComplianceRequest.Kind

Formats = list[Annotated[Chatbot.ExportFormat, Field(strict=False)]]


class AddressBody(StrictBody):
    """An address for callbacks. In optional fields, `null` means absent."""

    callback_url: str | None = Field(
        None,
        min_length=1,
        max_length=MOST_CHARACTERS,
        json_schema_extra={"format": "uri", "examples": ["https://hooks.example.com/privacy"]},
    )
    """Where callbacks go, in place of the chatbot's address."""

    @field_validator("callback_url")
    @classmethod
    def _can_be_called(cls, value: str | None) -> str | None:
        try:
            return None if value is None else canonical_url(value)
        except UrlRefused as refused:
            fault = str(refused)
        raise ValueError(fault)


class _FiledBody(AddressBody):
    """Fields of every request."""

    reference: str | None = Field(None, pattern=REFERENCE)
    """Your own ticket. It is kept until 90 days (`ERASURE_LEDGER_DAYS`) after the request has ended, so it must not
    contain the chatter's value or ids in the request."""
    requested_at: str | None = Field(None, min_length=1, json_schema_extra=INSTANT)
    """When the person asked, if that was earlier: a date in the chatbot's time zone, or an instant with an offset. At
    most 365 days ago. `due_at` counts from it."""


class RedactionBody(_FiledBody):
    """A redaction."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"title": "Messages", "properties": {"csat_comment": {"enum": [False, None]}}},
            "then": {"properties": {"ids": {"minItems": 1}}},
        }
    )

    csat_comment: bool | None = None
    """Redact the comment of the conversation's CSAT too, or alone. Refused if the conversation never had one."""
    ids: Annotated[list[PlatformId], Field(max_length=MOST_IDS, json_schema_extra={"uniqueItems": True})]
    """The platform's ids of the messages, all of this conversation. Empty for the CSAT comment alone."""
    reason: Redaction.Reason = Field(strict=False)
    """Kept in the change log."""

    @field_validator("ids")
    @classmethod
    def _is_something(cls, ids: list[str], info: ValidationInfo) -> list[str]:
        if not ids and not info.data.get("csat_comment"):
            raise PydanticCustomError("too_short", "Too short", {"min_length": 1})
        return ids


class _RequestBody(SelectorBase, _FiledBody):
    """Fields of deletions and exports, which have the names of those of RequestInput."""

    kind: ClassVar = Kind.DELETION

    def as_input(self) -> RequestInput:
        options = self.model_dump(include={field.name for field in fields(RequestInput)}, exclude_none=True)
        return RequestInput(self.kind, self.selector, **options)


class DeletionBody(_RequestBody):
    """A deletion."""

    action: Literal["delete"] | None = None
    """Keeps a captured call from being sent to the other path. Required if your chatbot is set so."""
    erase_exports: bool | None = None
    """Remove the chatter's fresh exports too; otherwise they are kept until their grace period ends."""


class ExportBody(_RequestBody):
    """An export."""

    kind: ClassVar = Kind.EXPORT

    action: Literal["export"] | None = None
    """Keeps a captured call from being sent to the other path. Required if your chatbot is set so."""
    include_shared: bool | None = None
    """Include conversations in which another chatter took part too."""
    include_files: bool | None = None
    """Copy the uploaded files of the conversations beside the CSV."""
    csv_dialect: Chatbot.CsvDialect | None = Field(None, strict=False)
    """How the CSV is written, in place of the chatbot's setting. `standard` has commas, and its lines end in LF. The
    others are for Excel, with a byte-order mark, CRLF, and commas or semicolons."""
    formats: Formats | None = Field(None, min_length=1)
    """In place of the chatbot's setting: `csv`, `json` (JSON Lines) and `html` (pages that read like a chat). The CSV
    alone is one file; other formats are a folder of files with a manifest."""
    archive: Literal["zip"] | None = None
    """One ZIP with all files of the export and a manifest, in place of a folder."""
    again: bool | None = None
    """File it also if an equal export waits, which would be returned otherwise."""


# With an action, a preview takes only the options of that kind.
_OPTIONS_OF_AN_ACTION: list[JsonValue] = [
    {"properties": {"action": {"type": "null"}}},
    {
        "properties": {
            "action": {"const": "delete"},
            **dict.fromkeys(("include_shared", "include_files", "csv_dialect", "formats", "archive"), False),
        }
    },
    {"properties": {"action": {"const": "export"}, "erase_exports": False}},
]


class PreviewBody(_RequestBody):
    """A request of either kind."""

    model_config = ConfigDict(
        json_schema_extra=ONE_SELECTOR | {"dependentSchemas": {"action": {"anyOf": _OPTIONS_OF_AN_ACTION}}}
    )

    action: Literal["delete", "export"] | None = None
    """Preview this kind alone; without it each kind that the key may file."""
    erase_exports: bool | None = None
    """Of a deletion."""
    include_shared: bool | None = None
    """Of an export."""
    include_files: bool | None = None
    """Of an export."""
    csv_dialect: Chatbot.CsvDialect | None = Field(None, strict=False)
    """An option of an export. It does not change the preview."""
    formats: Formats | None = Field(None, min_length=1)
    """An option of an export. It does not change the preview."""
    archive: Literal["zip"] | None = None
    """An option of an export. It does not change the preview."""


# The body of a request, by its `action`.
BODIES: Mapping[str, type[DeletionBody | ExportBody]] = {"delete": DeletionBody, "export": ExportBody}


class DeletionItem(DeletionBody):
    """A deletion in a batch."""

    action: Literal["delete"]


class ExportItem(ExportBody):
    """An export in a batch."""

    action: Literal["export"]


_ITEMS = Field(min_length=1, max_length=MAX_BATCH)


class BatchBody(StrictBody):
    """A batch as it is read: its items are validated one by one."""

    requests: list[Any] = _ITEMS


class Batch(BaseModel):
    """Up to 1,000 requests, to be filed in this order."""

    model_config = ConfigDict(extra="forbid")

    requests: list[DeletionItem | ExportItem] = _ITEMS


Model = TypeVar("Model", bound=BaseModel)


class SelectorBody(SelectorBase):
    """The selector alone."""


class NoBody(BaseModel):
    """An empty object."""

    model_config = ConfigDict(extra="forbid")


class DecisionBody(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    reason: Any = None


class CancelBody(DecisionBody):
    """Why a request is withdrawn."""

    reason: CancelReason | None = None
    """Kept in the change log."""


class ApproveBody(DecisionBody):
    """Why a held request may continue."""

    reason: ApproveReason | None = None
    """Kept in the change log."""


class RejectBody(DecisionBody):
    """Why a held request ends."""

    texts: ClassVar = {
        **ERRORS,
        "missing": ("missing", f"This field is required: one of {', '.join(RejectReason.values)}."),
    }

    reason: RejectReason
    """Kept in the change log."""
    note: str = Field("", max_length=MOST_CHARACTERS_OF_NOTE, pattern=WITHOUT_NUL)
    """More about the reason, for staff. Erased with the person's data, or with the digests of the request."""


class ExtendBody(StrictBody):
    """Why the deadline is extended."""

    reason: ComplianceRequest.ExtensionReason = Field(strict=False)
    """One of the two that Art. 12(3) GDPR allows. Tell it to the person, too."""


class AnsweredBody(StrictBody):
    """The letter that the person got."""

    letter: Letter = Field(strict=False)
    """`held`: the request is on hold; `refused`: it is rejected."""


def parse(model: type[Model], raw: bytes) -> Model:
    """Read a body. Raises Problem(`invalid`) with the invalid fields."""
    return validate(model, parse_json(raw))


def validate(model: type[Model], value: Any) -> Model:
    """Validate a body, or a part of one. Raises Problem(`invalid`) with the invalid fields."""
    errors: list[FieldError] = []
    body = None
    try:
        body = model.model_validate(value)
    except ValidationError as error:
        errors = field_errors(error, getattr(model, "texts", ERRORS))
    if issubclass(model, SelectorBase):
        # First, so that a shortened list has them.
        known = {error.pointer for error in errors}
        errors[:0] = [error for error in model.selector_errors(value) if error.pointer not in known]
    if body is None or errors:
        # Raised outside the except block: its context would contain the body.
        raise invalid_body(errors)
    return body


def require_no_body(request: Request) -> None:
    """Raise Problem (`invalid`, `unsupported_media_type`) unless the body is empty or an empty object."""
    if body_of(request):
        parse(NoBody, json_body(request))


def read_decision(request: Request, model: type[DecisionBody]) -> dict[str, Any]:
    """Return what the body says about a decision. An empty body is an empty object. Raises as `require_no_body`."""
    body = parse(model, json_body(request)) if body_of(request) else validate(model, {})
    return body.model_dump(exclude_none=True)


def invalid_body(errors: Sequence[FieldError]) -> Problem:
    """Return the error for a body, or a part of one, with these invalid fields."""
    return Problem("invalid", "The body is not valid for this call: see errors.", errors=errors)
