"""Chatbots that live in several places, which stand for shards of Citus, and what a statement asks about one of them.

A function of the name of Citus' own says where a chatbot lives; the statements still run on one PostgreSQL.
"""

import re
from collections.abc import Iterable
from typing import Protocol

import pytest
from django.db import connection
from django.db.models import Model

from chatbots.models import Chatbot
from conversations import placement

_SHARD_OF = """
CREATE FUNCTION get_shard_id_for_distribution_column(name regclass, chatbot bigint) RETURNS bigint LANGUAGE sql
    AS 'SELECT shard FROM (VALUES {}) AS lives(id, shard) WHERE id = chatbot'
"""
_CHATBOTS = re.compile(r"chatbot_id\"? (?:= ANY\(|IN \()'?[{(]?([0-9, ]+)")


class Shards(Protocol):
    def __call__(self, *places: list[Chatbot]) -> None: ...


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> Shards:
    """Called with lists of chatbots, it lets those of each list live in a shard of their own."""

    def live_in(*places: list[Chatbot]) -> None:
        lives = [f"({chatbot.pk}, {shard})" for shard, chatbots in enumerate(places) for chatbot in chatbots]
        with connection.cursor() as cursor:
            cursor.execute(_SHARD_OF.format(", ".join(lives)))
        monkeypatch.setattr(placement, "is_distributed", lambda: True)

    return live_in


def asked_about(model: type[Model], captured: Iterable[dict[str, str]], *, if_it_has: str) -> list[list[int]]:
    """Return which chatbots captured statements on a model's table name, in order, of those that have a text."""
    texts = [one["sql"] for one in captured if model._meta.db_table in one["sql"] and if_it_has in one["sql"]]
    named = [",".join(_CHATBOTS.findall(text)).split(",") for text in texts]
    return sorted(sorted(set(map(int, one))) for one in named)
