"""Give the numbers of rows that were lost to others, as a restored database does: its sequences are set back too.

The drill checks that whoever has such a number is not taken for the one who had it. Texts in SQL are ours.
"""

import json
from typing import Any
from uuid import uuid4

from common import crypto
from scripts.drill_scene import FERRIES, ORCHARD, UCI, Person, Scene
from scripts.drill_site import Database


def have_numbers_repeated(scene: Scene, database: Database) -> None:
    """Set the sequences to where the lost chatbot got its numbers. In a physical copy they are past them."""
    for table, number in scene.lost_numbers.items():
        database.sql(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), %s, false)", [number])


def add_with_the_same_numbers(scene: Scene, database: Database) -> None:
    """Add a chatbot and a person by SQL, since a dump that was loaded is closed before its first command.

    They get the numbers that the lost chatbot and its person had.
    """
    have_numbers_repeated(scene, database)
    nils = scene.people["nils"] = Person("nils", ORCHARD, scene.people["mia"].uci)
    document = nils.say()
    document["custom_variables"] = {UCI: nils.uci}
    public_ids = {"chatbot": uuid4(), "variable": uuid4()}
    ida = scene.numbers[scene.people["ida"].documents[0]["id"]]
    chatbot = _copy_row(
        database,
        "chatbots_chatbot",
        f"slug = '{FERRIES}'",
        {"slug": ORCHARD, "name": "Hill Orchard", "public_id": str(public_ids["chatbot"])},
    )
    variable = _copy_row(
        database,
        "chatbots_variable",
        f"is_uci AND chatbot_id = (SELECT id FROM chatbots_chatbot WHERE slug = '{FERRIES}')",  # noqa: S608
        {"chatbot_id": chatbot, "public_id": str(public_ids["variable"])},
    )
    ours = {"chatbot_id": chatbot, "uci_variable_id": variable}
    digest = crypto.digest("conversation", public_ids["chatbot"], document["id"]).hex()
    named = {"external_id": document["id"], "external_id_digest": f"\\x{digest}", "user_name": document["user_name"]}
    comment = {"csat_comment": document["csat"]["comment"]}
    conversation = _copy_row(database, "conversations_conversation", f"id = {ida}", ours | named | comment)
    of_it = {"chatbot_id": chatbot, "conversation_id": conversation}
    digest = crypto.digest("chatter", public_ids["variable"], nils.uci).hex()
    _copy_row(
        database,
        "conversations_identity",
        f"conversation_id = {ida}",
        of_it | {"variable_id": variable, "value": nils.uci, "digest": f"\\x{digest}"},
    )
    first = f"id = (SELECT min(id) FROM conversations_message WHERE conversation_id = {ida})"  # noqa: S608
    for message in document["messages"]:
        _copy_row(
            database,
            "conversations_message",
            first,
            of_it | {"external_id": message["id"], "text": message["text"], "sender": message["sender"]},
        )


def _copy_row(database: Database, table: str, which: str, changes: dict[str, Any]) -> int:
    """Insert a copy of a row with some fields changed and the next number, and return that."""
    [(number,)] = database.sql(
        f"INSERT INTO {table} SELECT (jsonb_populate_record(t,"  # noqa: S608
        f" %s::jsonb || jsonb_build_object('id', nextval(pg_get_serial_sequence('{table}', 'id'))))).*"
        f" FROM {table} t WHERE {which} RETURNING id",
        [json.dumps(changes)],
    )
    return int(number)
