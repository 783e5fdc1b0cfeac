from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings

from compliance import checks, inventory
from compliance.inventory import Disposition, Store
from compliance.outside import EXCEPTIONS, OUTSIDE
from compliance.retention import expiry
from conversations.models import Tombstone
from tests.commands import run


def test_every_model_and_field_is_declared() -> None:
    assert checks.every_model_is_declared() == []


def test_an_undeclared_model_stops_the_start_with_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "STORES", inventory.STORES[1:])

    (instruction,) = inventory.undeclared()

    assert instruction.startswith("conversations.Message is not in compliance/inventory.py.")
    assert "add a Store" in instruction
    assert [error.id for error in checks.every_model_is_declared()] == ["compliance.E001"]


def test_a_field_without_a_disposition_is_reported_with_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    message, *others = inventory.STORES
    fields = {name: disposition for name, disposition in message.fields.items() if name != "text"}
    monkeypatch.setattr(inventory, "STORES", (Store(message.model, message.way, fields), *others))

    (instruction,) = inventory.undeclared()
    assert instruction == (
        "conversations.Message.text has no disposition in compliance/inventory.py: add it to what is declared of "
        "the model."
    )


def test_kept_fields_have_a_reason() -> None:
    for store in inventory.STORES:
        for name, (disposition, reason) in store.fields.items():
            assert disposition is Disposition.DELETED or reason, f"{store.model.__name__}.{name}"
    assert all(of.why for of in OUTSIDE.values())
    assert all(EXCEPTIONS.values())


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("references", ["compliance.ComplianceRequest.reference"]),
        ("tombstones", [f"conversations.Tombstone.{field.name}" for field in Tombstone._meta.concrete_fields]),
    ],
)
def test_what_is_kept_for_a_while_and_ends_by_no_rule_stops_the_start(monkeypatch, rule, left) -> None:
    monkeypatch.setattr(expiry, "EXPIRY", {name: one for name, one in expiry.EXPIRY.items() if name != rule})

    errors = checks.every_model_is_declared()

    assert sorted(error.msg.split()[0] for error in errors) == sorted(left)
    assert "nothing ends it: add a rule to compliance/retention/expiry.py" in errors[0].msg


def test_a_free_column_of_a_table_without_personal_data_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    key = OUTSIDE["chatbots.ApiKey"]
    monkeypatch.setitem(OUTSIDE, "chatbots.ApiKey", key._replace(columns=key.columns.removeprefix("label ")))
    assert list(inventory.undeclared()) == [
        "chatbots.ApiKey.label has no mention in compliance/outside.py: add it to what is declared of the model."
    ]


def test_models_listed_as_outside_exist() -> None:
    labels = {model._meta.label for model in apps.get_models(include_auto_created=True)}

    assert OUTSIDE.keys() | EXCEPTIONS.keys() <= labels


def test_the_page_is_what_the_command_prints() -> None:
    page = Path(settings.BASE_DIR) / "docs/reference/data-map.md"
    again = "Run: manage.py data_map > docs/reference/data-map.md"
    assert page.read_text(encoding="utf-8") == run("data_map").out, again
