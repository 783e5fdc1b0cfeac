"""The variables a document carries, against those the chatbot declares."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from chatbots.models import Chatbot, Variable
from common.crypto import digest
from conversations.documents import Document, DocumentError, error_at

MAX_UCI_LENGTH = 512

# A variable of the chatbot and the keyed digest of a value: how an erased chatter is remembered.
Chatter = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Declared:
    """The variables of one chatbot, by name, as they stood when read."""

    by_name: dict[str, Variable]
    uci_id: int | None
    # Present and former: under each of them a chatter can have been erased.
    uci_ids: frozenset[int]
    # The scopes of digests of their values.
    uci_public_ids: dict[int, UUID]

    @classmethod
    def read(cls, chatbot: Chatbot) -> "Declared":
        variables = list(Variable.objects.filter(chatbot=chatbot))
        ucis = {variable.pk: variable.public_id for variable in variables if variable.is_uci or variable.was_uci}
        return cls(
            by_name={variable.name: variable for variable in variables},
            uci_id=next((variable.pk for variable in variables if variable.is_uci), None),
            uci_ids=frozenset(ucis),
            uci_public_ids=ucis,
        )

    def resolve(self, document: Document) -> tuple[dict[int, str], list[DocumentError]]:
        """Return the document's values by variable id, and an error for each variable refused."""
        values: dict[int, str] = {}
        errors: list[DocumentError] = []
        for section, category, name, value in _sent(document):
            variable = self.by_name.get(name)
            if variable is None:
                detail = "The chatbot declares no such variable."
                errors.append(error_at((section, name), "undeclared_variable", detail))
            elif variable.category != category:
                detail = f"This is a {variable.category} variable."
                errors.append(error_at((section, name), "wrong_category", detail))
            elif variable.pk in self.uci_ids and len(value) > MAX_UCI_LENGTH:
                detail = f"A UCI value must have at most {MAX_UCI_LENGTH} characters."
                errors.append(error_at((section, name), "too_long", detail))
            else:
                values[variable.pk] = value
        return values, errors

    def chatters(self, values: dict[int, str]) -> dict[int, bytes]:
        """Return whom the values name, under the present UCI or a former one: by variable, the digest of the value.

        Placeholders name nobody.
        """
        return {
            variable_id: digest("chatter", self.uci_public_ids[variable_id], value)
            for variable_id, value in values.items()
            if variable_id in self.uci_ids and value not in settings.UCI_PLACEHOLDERS
        }


def _sent(document: Document) -> Iterator[tuple[str, str, str, str]]:
    """Yield (section, category due there, name, value); `null` is as absent."""
    sections = (
        ("user_channel_variables", Variable.Category.USER_CHANNEL, document.get("user_channel_variables")),
        ("custom_variables", Variable.Category.CUSTOM, document.get("custom_variables")),
    )
    for section, category, variables in sections:
        for name, value in (variables or {}).items():
            if value is not None:
                yield section, category, name, value
