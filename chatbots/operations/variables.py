"""Variables of a chatbot. One is its Unique Chatter Identifier."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db import transaction

from chatbots import changelog
from chatbots.models import Chatbot, Variable

Category = Variable.Category

_VARIABLE_NAME = re.compile(r"\S(.{0,126}\S)?")
_USER_CHANNEL_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class NewVariable:
    """A variable to create, with a category of Variable.Category."""

    category: str
    name: str


def add_variable(*, chatbot: Chatbot, variable: NewVariable, actor: str) -> Variable:
    """Declare a variable, or return the existing one of this name and category. Raises ValidationError."""
    check_variables([variable], uci=None)
    with transaction.atomic():
        Chatbot.objects.select_for_update(no_key=True).get(pk=chatbot.pk)
        known = Variable.objects.filter(chatbot=chatbot, name=variable.name).first()
        if known is None:
            return create_variable(chatbot, variable, actor)
    if known.category != variable.category:
        message = f"{variable.name!r} is a {known.category} variable already. Choose another name."
        raise ValidationError({"variables": message})
    return known


def designate_uci(*, chatbot: Chatbot, name: str, actor: str) -> Variable:
    """Make a variable the chatbot's Unique Chatter Identifier, for conversations that begin from now on.

    Earlier ones stay findable under the UCI of their time. Raises ValidationError.
    """
    with transaction.atomic():
        # One designation at a time. `no_key`, so that intake can insert rows of the chatbot meanwhile.
        Chatbot.objects.select_for_update(no_key=True).get(pk=chatbot.pk)
        variable = Variable.objects.filter(chatbot=chatbot, name=name).first()
        if variable is None:
            raise ValidationError({"uci": "This chatbot has no such variable. Declare it first."})
        if variable.category == Category.SYSTEM:
            raise ValidationError(
                {"uci": "A system variable cannot be the UCI. Choose a custom or user-channel one."}
            )
        if not variable.is_uci:
            Variable.objects.filter(chatbot=chatbot, is_uci=True).update(is_uci=False, was_uci=True)
            variable.is_uci = True
            variable.save(update_fields=["is_uci"])
            changelog.record("variable.designated_uci", chatbot_id=chatbot.pk, actor=actor, data={"variable": name})
    return variable


def check_variables(variables: Sequence[NewVariable], *, uci: str | None) -> None:
    errors: dict[str, list[str]] = {"variables": [], "uci": []}
    names = [variable.name for variable in variables]
    for variable in variables:
        errors["variables"] += _errors_of(variable)
        if names.count(variable.name) > 1:
            errors["variables"].append(f"{variable.name!r} is named more than once. Names are unique in a chatbot.")
    categories = {variable.name: variable.category for variable in variables}
    if uci is not None and uci not in categories:
        errors["uci"].append(f"The UCI {uci!r} is not among the variables. Declare it too: custom:{uci}.")
    elif uci is not None and categories[uci] == Category.SYSTEM:
        errors["uci"].append("A system variable cannot be the UCI. Choose a custom or user-channel one.")
    if any(errors.values()):
        raise ValidationError({field: list(dict.fromkeys(found)) for field, found in errors.items() if found})


def create_variable(chatbot: Chatbot, variable: NewVariable, actor: str) -> Variable:
    created = Variable.objects.create(chatbot=chatbot, name=variable.name, category=variable.category)
    data = {"variable": variable.name, "category": str(variable.category)}
    changelog.record("variable.created", chatbot_id=chatbot.pk, actor=actor, data=data)
    return created


def _errors_of(variable: NewVariable) -> list[str]:
    errors = []
    if variable.category not in Category.values:
        errors.append(f"Unknown category {variable.category!r}. Use one of: {', '.join(Category.values)}.")
    advice = ""
    if not _VARIABLE_NAME.fullmatch(variable.name) or not variable.name.isprintable():
        advice = "Use 1 to 128 printable characters, with no space at either end."
    elif variable.category == Category.USER_CHANNEL and not _USER_CHANNEL_NAME.fullmatch(variable.name):
        advice = "Names of user-channel variables have lower-case letters, digits and underscores."
    if advice:
        errors.append(f"Bad name {variable.name!r}. {advice}")
    return errors
