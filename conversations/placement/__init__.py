"""The places of chatbots: one place for all on one PostgreSQL, and one for each shard on Citus.

If the conversation tables are distributed, a statement that locks rows of them, or reads more of them than a plain
join, takes chatbots of one shard only. Code that works for several chatbots groups them first, with `by_place`.
`machines` tracks the machines that do not answer, `distribution` converts a database, and `coordinator` queries Citus
for both (docs/explanation/citus.md). No code outside of this package depends on Citus.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import TypeVar

from common.db import array, by_index, execute, fetch
from conversations.models import Conversation

_Thing = TypeVar("_Thing")

TABLE = Conversation._meta.db_table
_KNOWS_SHARDS = "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
_IS_DISTRIBUTED = "SELECT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = %s::regclass)"
_SHARDS = """
SELECT chatbot_id, get_shard_id_for_distribution_column(%s::regclass, chatbot_id)
  FROM unnest(%s::bigint[]) AS each(chatbot_id)
"""


@cache
def is_distributed() -> bool:
    """Return whether the conversation tables are distributed. They are converted only while no process is at work."""
    return bool(fetch(_KNOWS_SHARDS)[0][0] and fetch(_IS_DISTRIBUTED, [TABLE])[0][0])


def settings_of_machines() -> dict[str, str]:
    """Return the setting by which the machines get the others of a transaction, too (`common.db.ALSO_SET`)."""
    return {"citus.propagate_set_commands": "local"} if is_distributed() else {}


def find_by_index() -> None:
    """Make the machines of Citus find rows by index until the transaction ends, as a worker's session does here."""
    if is_distributed():
        execute(by_index())


def by_place(chatbot_of: Mapping[_Thing, int]) -> list[list[_Thing]]:
    """Group items, given with the chatbot of each, by the place of their chatbots.

    Groups and their items keep the given order. Call it again for each piece of work: a shard can be split.
    """
    if not chatbot_of or not is_distributed():
        return [list(chatbot_of)] if chatbot_of else []
    shards = dict(fetch(_SHARDS, [TABLE, array(set(chatbot_of.values()))]))
    places: dict[int, list[_Thing]] = defaultdict(list)
    for thing, chatbot_id in chatbot_of.items():
        places[shards[chatbot_id]].append(thing)
    return list(places.values())
