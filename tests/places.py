"""Chatbots that live in several places, which stand for shards of Citus, and what a statement asks about one of them.

A function of the name of Citus' own says where a chatbot lives; the statements still run on one PostgreSQL.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Protocol

import pytest
from django.db import connection
from django.db.models import Model

from chatbots.models import Chatbot
from conversations import placement
from conversations.placement import machines

_SHARD_OF = """
CREATE FUNCTION get_shard_id_for_distribution_column(name regclass, chatbot bigint) RETURNS bigint LANGUAGE sql
    AS 'SELECT shard FROM (VALUES {}) AS lives(id, shard) WHERE id = chatbot'
"""
# The place of each number has a machine of its own.
_MACHINES = """
CREATE TABLE pg_dist_node AS
    SELECT shard AS groupid, 'machine' AS nodename, shard AS nodeport FROM generate_series(0, {last}) AS shard;
CREATE TABLE pg_dist_placement AS SELECT groupid AS shardid, groupid FROM pg_dist_node;
GRANT SELECT ON pg_dist_node, pg_dist_placement TO PUBLIC
"""
_NO_MACHINES = """
DROP FUNCTION IF EXISTS get_shard_id_for_distribution_column;
DROP TABLE IF EXISTS pg_dist_node, pg_dist_placement
"""
_CHATBOTS = re.compile(r"chatbot_id\"? (?:= ANY\(|IN \()'?[{(]?([0-9, ]+)")


class Shards(Protocol):
    def __call__(self, *places: list[Chatbot]) -> None: ...


class Silence(Protocol):
    def __call__(self, *places: int) -> None: ...


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shards]:
    """Called with lists of chatbots, it lets those of each list live in a shard of their own, on a machine each."""

    def live_in(*places: list[Chatbot]) -> None:
        lives = [f"({chatbot.pk}, {shard})" for shard, chatbots in enumerate(places) for chatbot in chatbots]
        with connection.cursor() as cursor:
            cursor.execute(_SHARD_OF.format(", ".join(lives)))
            cursor.execute(_MACHINES.format(last=len(places) - 1))
        monkeypatch.setattr(machines, "_last", machines._LastAnswers())
        monkeypatch.setattr(machines, "silent_nodes", list)
        monkeypatch.setattr(placement, "is_distributed", lambda: True)

    yield live_in
    if not connection.in_atomic_block:  # a test that commits
        with connection.cursor() as cursor:
            cursor.execute(_NO_MACHINES)


@pytest.fixture
def silence(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> Silence:
    """Called with numbers of places, it has their machines silent, and all others answer."""

    def silent(*places: int) -> None:
        monkeypatch.setattr(machines, "silent_nodes", lambda: [f"machine:{place}" for place in places])
        monkeypatch.setattr(machines, "_last", machines._LastAnswers())

    return silent


def asked_about(model: type[Model], captured: Iterable[dict[str, str]], *, if_it_has: str) -> list[list[int]]:
    """Return which chatbots captured statements on a model's table name, in order, of those that have a text."""
    texts = [one["sql"] for one in captured if model._meta.db_table in one["sql"] and if_it_has in one["sql"]]
    named = [",".join(_CHATBOTS.findall(text)).split(",") for text in texts]
    return sorted(sorted(set(map(int, one))) for one in named)
