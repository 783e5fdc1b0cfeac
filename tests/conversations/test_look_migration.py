"""The migration that fills `look` of identities that were stored before it."""

from importlib import import_module
from typing import Any

import pytest
from django.db import connection

from common.folding import look_hash
from conversations.models import Identity
from tests.factories import IdentityFactory, conversation_of, uci_of
from tests.patches import before

migration = import_module("conversations.migrations.0008_fill_look")

VALUES = [f"Zoe\u0308 {number}" for number in range(7)]


class Stopped(Exception):
    pass


def looks() -> dict[Any, Any]:
    return dict(Identity.objects.order_by("pk").values_list("value", "look"))


def test_it_fills_chunk_by_chunk_and_goes_on_where_it_was_stopped(chatbot, neighbour, monkeypatch) -> None:
    for value in VALUES:
        conversation_of(neighbour if value == VALUES[3] else chatbot, value, messages=0)
    erased = conversation_of(chatbot, messages=0)
    IdentityFactory.create(conversation=erased, variable=uci_of(chatbot), value=None, digest=b"x" * 32)
    Identity.objects.update(look=None)
    monkeypatch.setattr(migration, "_ROWS", 3)
    statements = 0

    def stop_at_the_third(*_: Any) -> None:
        nonlocal statements
        statements += 1
        if statements == 3:
            raise Stopped

    before(monkeypatch, migration, "execute", stop_at_the_third)
    with pytest.raises(Stopped):
        migration._fill(None, connection.schema_editor())
    right = {value: look_hash(value) for value in VALUES} | {None: None}
    # The second three are of two chatbots: the neighbour's is stored.
    assert looks() == right | dict.fromkeys(VALUES[4:])
    migration._fill(None, connection.schema_editor())
    assert looks() == right
    assert statements == 4
