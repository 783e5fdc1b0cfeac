"""The similar values that a preview shows: a mistyped value is the most common mistake."""

# ruff: noqa: RUF001  (characters that look the same)

import pytest
from django.db import connection

from chatbots.models import Variable
from common.db import execute
from compliance.requests import similar as similar_values
from conversations.models import Conversation, Identity
from tests.calls import TokenCaller
from tests.compliance.api.test_preview import KEY, VALUE, body
from tests.conversations.documents import parsed
from tests.conversations.intakes import stored
from tests.factories import IdentityFactory, conversation_of, deletion_of, uci_of
from tests.functional.scans import Watch


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


LOOKING_THE_SAME = {
    "accent as a character of its own": "Jose\u0301 B-7",
    "full width": "Ｊｏｓé Ｂ-７",
    "no-break space": "José\u00a0B-7",
    "two spaces": "José  B-7",
    "Cyrillic": "Јоѕé В-7",
    "Greek": "Jοsé Β-7",
    "Armenian": "Jօsé B-7",
    "grapheme joiner": "Jos\u034fé B-7",
    "variation selector": "José B-7\ufe0f",
    "Hangul filler": "José\u3164 B-7",
    "zero width": "Jo\u200dsé B-7",
    "soft hyphen": "Jo\u00adsé B-7",
    "direction": "José B-7\u202c",
    "control": "José B-7\x01",
    "hyphen": "José B‑7",
}


def test_values_that_look_the_same_are_shown(chatbot, neighbour, caller):
    for value in LOOKING_THE_SAME.values():
        conversation_of(chatbot, value, messages=0)
    conversation_of(neighbour, "José B-7")
    conversation_of(chatbot, "Jose B-7", messages=0)
    assert similar(caller, "José B-7") == sorted(
        ("member_id", value, 1, ["look"]) for value in LOOKING_THE_SAME.values()
    )
    others = [value for name, value in LOOKING_THE_SAME.items() if name != "accent as a character of its own"]
    found = similar(caller, LOOKING_THE_SAME["accent as a character of its own"])
    assert [value for _, value, _, _ in found] == sorted(others)
    with_all = similar(caller, "00JOSÉ Ｂ-7")
    assert {tuple(differs_in) for *_, differs_in in with_all} == {("case", "padding", "look")}


def test_a_conversation_that_was_taken_in_is_found_by_a_value_that_looks_the_same(chatbot, caller):
    document = parsed(custom_variables={"member_id": "Zoe\u0308 7"})
    assert stored(chatbot, document)[0].outcome == "created"
    assert similar(caller, "zoë 7") == [("member_id", "Zoe\u0308 7", 1, ["case", "look"])]


@pytest.mark.one_postgresql(reason="plans")
def test_however_many_conversations_have_a_value_few_are_read(chatbot, caller, monkeypatch):
    for value in ("B-7", "В-7"):
        conversation_of(chatbot, value, messages=0)
    execute(_MANY, {"chatbot": chatbot.pk})
    execute("ANALYZE conversations_identity")
    # As many look-ups as there are values, and their conversations until there are too many to count.
    watch = Watch(["conversations_identity"], most_entries=50, monkeypatch=monkeypatch)
    with watch.step("similar"):
        [found] = similar_values.find(
            chatbot_id=chatbot.pk, variable_id=uci_of(chatbot).pk, values=["b-7"], most_counted=10
        )
    assert sorted((one.value, one.conversations) for one in found) == [("B-7", 10), ("В-7", 10)]
    assert not watch.findings, "\n\n".join(map(str, watch.findings))


_MANY = """
WITH made AS (
    INSERT INTO conversations_conversation (chatbot_id, external_id, external_id_digest, uci_variable_id, channel,
           started_at, message_count, has_file_upload, has_agent_handover, has_push)
    SELECT %(chatbot)s, 'n-' || n, sha256(n::text::bytea), NULL, 'widget', now(), 0, FALSE, FALSE, FALSE
      FROM generate_series(1, 3000) AS n
    RETURNING id
)
INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, value, digest, look)
SELECT i.chatbot_id, made.id, i.variable_id, i.value, i.digest, i.look FROM conversations_identity i CROSS JOIN made
 WHERE i.chatbot_id = %(chatbot)s
"""


@pytest.mark.one_postgresql(reason="filled by one statement over several tables")
def test_the_number_of_similar_values_is_bounded(chatbot, caller):
    chatters = ["7", *(f"{'0' * number}7" for number in range(1, 40))]
    for value in chatters:
        conversation_of(chatbot, value, messages=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, value, look, digest)"
            " SELECT c.chatbot_id, c.id, c.uci_variable_id, '000007', alike.look, alike.digest"
            "   FROM conversations_conversation c"
            "  CROSS JOIN (SELECT look, digest FROM conversations_identity WHERE value = '000007') AS alike"
            " WHERE NOT EXISTS (SELECT FROM conversations_identity WHERE conversation_id = c.id AND value = '000007')"
        )
    found = caller.post("preview", body("7")).json()["similar"]
    assert len(found) == 20
    assert all(one["conversations"] in {1, 40} for one in found)
