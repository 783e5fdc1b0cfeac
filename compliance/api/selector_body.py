"""The part of a body that says whose data a call is about: a chatter, or conversations."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from common.problems import FieldError
from common.texts import WITHOUT_NUL
from compliance.errors import Refused
from compliance.requests.selectors import LONGEST_ID, MOST_CONVERSATIONS, ByConversations, ByUci, Selector
from conversations.api.shapes import UCI_VALUE

# The limits of `ByConversations` and `ByMessages`, so that errors point to the item.
PlatformId = Annotated[str, Field(min_length=1, max_length=LONGEST_ID, pattern=WITHOUT_NUL)]

# The two selectors. A condition in place of two alternatives: client generators would make a class of each of those,
# without the other fields. `selector_errors` checks it.
BY_UCI = ("unique_chatter_identifier_key", "unique_chatter_identifier_value")
BY_CONVERSATIONS = "conversation_ids"
ONE_SELECTOR: dict[str, JsonValue] = {
    "if": {"title": "A chatter", "properties": {BY_CONVERSATIONS: {"type": "null"}}},
    "then": {
        "required": list(BY_UCI),
        "properties": {name: {"type": "string"} for name in BY_UCI},
    },
    "else": {"title": "Conversations", "properties": {name: {"type": "null"} for name in BY_UCI}},
}


# A field for `compliance.requests.inputs.read_instant`.
INSTANT: dict[str, JsonValue] = {
    "pattern": r"^\d{4}-\d\d-\d\d(T\S+(Z|[+-]\d\d:\d\d))?$",
    "examples": ["2026-11-30", "2026-11-30T09:30:00Z"],
}


class StrictBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)


class SelectorBase(StrictBody):
    model_config = ConfigDict(json_schema_extra=ONE_SELECTOR)

    unique_chatter_identifier_key: str | None = Field(None, min_length=1, max_length=128, pattern=WITHOUT_NUL)
    """The name of the chatbot's UCI, present or former."""
    # The limit is also what makes pydantic look for unpaired surrogates.
    unique_chatter_identifier_value: str | None = Field(None, max_length=512, json_schema_extra=UCI_VALUE)
    """The chatter: an exact string. Placeholders that broken integrations send are refused."""
    conversation_ids: list[PlatformId] | None = Field(
        None, min_length=1, max_length=MOST_CONVERSATIONS, json_schema_extra={"uniqueItems": True}
    )
    """Instead of a chatter: the platform's ids of the conversations."""

    @property
    def selector(self) -> Selector:
        """The selector of a body that `validate` has returned."""
        if self.conversation_ids is not None:
            return ByConversations(tuple(self.conversation_ids))
        return ByUci(self.unique_chatter_identifier_key or "", self.unique_chatter_identifier_value or "")

    @field_validator("unique_chatter_identifier_value")
    @classmethod
    def _is_no_placeholder(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            ByUci("", value).check()
        except Refused as refused:
            raise ValueError(refused.detail) from None
        return value

    @classmethod
    def selector_errors(cls, given: Any) -> list[FieldError]:
        """Return the errors of the selector. Exactly one selector is required."""
        if not isinstance(given, dict):
            return []
        ids = given.get(BY_CONVERSATIONS)
        if ids is None:
            return [
                FieldError(pointer=f"/{name}", code="wrong_type", detail="Must be a string.")
                if name in given
                else FieldError(
                    pointer=f"/{name}", code="missing", detail="This field is required, or conversation_ids."
                )
                for name in BY_UCI
                if given.get(name) is None
            ]
        if any(given.get(name) is not None for name in BY_UCI):
            detail = "Name a chatter or conversations, not both in one call."
            return [FieldError(pointer=f"/{BY_CONVERSATIONS}", code="conflict", detail=detail)]
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            return []
        # Texts that are too long, or cannot be stored, are among the errors already.
        return [
            FieldError(pointer=fault.pointer, code="repeated_id", detail=fault.detail)
            for fault in ByConversations(tuple(ids)).faults()
        ]
