"""The similar values that a preview shows: a mistyped value is the most common mistake."""

import pytest
from django.db import connection

from chatbots.models import Variable
from conversations.models import Conversation, Identity
from tests.calls import TokenCaller
from tests.compliance.api.test_preview import KEY, VALUE, body
from tests.factories import IdentityFactory, conversation_of, deletion_of


def similar(caller: TokenCaller, value: str) -> list[tuple[str, str, int, list[str]]]:
    answer = caller.post("preview", body(value)).json()
    return sorted((one[KEY], one[VALUE], one["conversations"], one["differs_in"]) for one in answer["similar"])


def test_similar_values_are_shown_whether_or_not_anything_was_found(chatbot, neighbour, caller):
    email = Variable.objects.create(chatbot=chatbot, name="email", category="custom", was_uci=True)
    for value in ("ab-7", "AB-7", " ab-7", "00ab-7\u00a0", "ab-70", "ab-8"):
        conversation_of(chatbot, value, messages=0)
    for _ in range(2):
        IdentityFactory.create(conversation=conversation_of(chatbot, messages=0), variable=email, value="ab-7")
    IdentityFactory.create(conversation=conversation_of(chatbot, messages=0), variable=email, value="0Ab-7")
    conversation_of(neighbour, "AB-7")
    alike = [
        ("email", "0Ab-7", 1, ["key", "case", "padding"]),
        ("email", "ab-7", 2, ["key"]),
        ("member_id", " ab-7", 1, ["padding"]),
        ("member_id", "00ab-7\u00a0", 1, ["padding"]),
        ("member_id", "AB-7", 1, ["case"]),
    ]
    assert similar(caller, "ab-7") == alike
    assert similar(caller, "Ab-7")[-1] == ("member_id", "ab-7", 1, ["case"])
    of_its_own = Identity.objects.filter(chatbot=chatbot, value="AB-7").values("conversation")
    Conversation.objects.filter(chatbot=chatbot, pk__in=of_its_own).update(
        deletion_request_id=deletion_of(chatbot, "x").pk
    )
    assert similar(caller, "ab-7") == alike[:-1]


@pytest.mark.long(reason="a call for each pair", beyond=6)
@pytest.mark.parametrize(
    ("stored", "asked", "differs_in"),
    [
        ("0", "000", ["padding"]),
        ("000", "0", ["padding"]),
        ("007", " 7", ["padding"]),
        ("ÉLOÏSE", "éloïse", ["case"]),
        ("\u3000\u20037\ufeff\t", "7", ["padding"]),
        ("0" * 511 + "A", "a", ["case", "padding"]),
        ("😀" * 511 + "a", "😀" * 511 + "A", ["case"]),
        ("Ⱥ" * 512, "ⱥ" * 512, ["case"]),
        (" ", "0", None),
        (" ", "\u2003", ["padding"]),
        ("1", "10", None),
        ("a b", "ab", None),
    ],
)
def test_a_similar_value_is_shown_with_its_differences(chatbot, caller, stored, asked, differs_in):
    conversation_of(chatbot, stored, messages=0)
    answer = caller.post("preview", body(asked)).json()
    assert answer["similar"] == (
        [{KEY: "member_id", VALUE: stored, "conversations": 1, "differs_in": differs_in}] if differs_in else []
    )


@pytest.mark.one_postgresql(reason="filled by one statement over several tables")
def test_the_number_of_similar_values_is_bounded(chatbot, caller):
    chatters = ["7", *(f"{'0' * number}7" for number in range(1, 40))]
    for value in chatters:
        conversation_of(chatbot, value, messages=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, value, digest)"
            " SELECT c.chatbot_id, c.id, c.uci_variable_id, '000007', alike.digest"
            "   FROM conversations_conversation c"
            "  CROSS JOIN (SELECT digest FROM conversations_identity WHERE value = '000007') AS alike"
            " WHERE NOT EXISTS (SELECT FROM conversations_identity WHERE conversation_id = c.id AND value = '000007')"
        )
    found = caller.post("preview", body("7")).json()["similar"]
    assert len(found) == 20
    assert all(one["conversations"] in {1, 40} for one in found)
