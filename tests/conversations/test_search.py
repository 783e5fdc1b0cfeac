"""Finding conversations by value, id, number, name or request."""

from datetime import timedelta

import pytest

from chatbots.models import Chatbot
from common.crypto import digest
from common.db import execute
from conversations import search
from conversations.models import Conversation, Identity
from conversations.search import SearchResult
from tests.conversations.closing import mark
from tests.factories import NOON, ConversationFactory, conversation_of, uci_of
from tests.functional.scans import Watch


def numbers(found: SearchResult) -> list[int]:
    return [row.number for row in found.rows]


def named(chatbot: Chatbot, *names: str) -> list[int]:
    return [ConversationFactory.create(chatbot=chatbot, user_name=name).pk for name in names]


def test_by_name_it_finds_any_words_by_their_beginnings_without_case_and_accents(chatbot, neighbour) -> None:
    names = (" ADA", "Ada Lovelace", "adam", "Lucía Peña", "Bada", "Peñarol, Ada-Luc", "Łódź Øre ẞtraße", "李明")
    ada, lovelace, adam, pena, bada, penarol, lodz, ming = named(chatbot, *names)
    named(neighbour, *names)
    named(chatbot, "A%", "_da", "?!")
    mark(Conversation.objects.get(pk=named(chatbot, "Ada Lovelace")[0]))

    def by(name: str) -> list[int]:
        return numbers(search.by_name(chatbot=chatbot, name=name))

    assert by("ada ") == [penarol, adam, lovelace, ada]
    assert by("lovelace") == by("love, ADA") == by("a lov") == [lovelace]
    assert by("adam") == [adam]
    assert by("pena") == by("PEN\u0303A") == [penarol, pena]
    assert by("peña lucía") == by("p luci") == [pena]
    assert by("a ada adam") == [adam]
    assert by("lodz ore sstrasse") == [lodz]
    assert by("李") == [ming]
    assert by("ovelace") == by("%da lo") == by("ada ada lovelace byron") == by("?!") == by("") == []
    assert bada not in by("a")


# One in twenty is Ada.
_FILL = """
WITH made AS (
    INSERT INTO conversations_conversation
           (chatbot_id, external_id, external_id_digest, channel, user_name, started_at, has_file_upload,
            has_agent_handover, has_push, message_count)
    SELECT %(chatbot)s, 'c-' || n, sha256(n::text::bytea), 'widget',
           CASE WHEN n <= 300 THEN 'Ada' ELSE 'Bob ' || n END, now(), FALSE, FALSE, FALSE, 0
      FROM generate_series(1, 6000) AS n
    RETURNING id, chatbot_id, user_name
), worded AS (
    INSERT INTO conversations_nameword (chatbot_id, conversation_id, word)
    SELECT chatbot_id, id, word FROM made CROSS JOIN unnest(ARRAY['ada', 'lovelace' || id %% 100]) AS word
)
INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, value, digest, established_by)
SELECT chatbot_id, id, %(uci)s, user_name, CASE user_name WHEN 'Ada' THEN %(ada)s ELSE sha256(user_name::bytea) END,
       'custom'
  FROM made
"""


def test_however_many_match_it_reads_few(chatbot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where PostgreSQL expects few to match, so that it would rather sort them all."""
    uci = uci_of(chatbot)
    ada = digest("chatter", uci.public_id, "Ada")
    execute(_FILL, {"chatbot": chatbot.pk, "uci": uci.pk, "ada": ada})
    execute("ANALYZE conversations_conversation, conversations_identity, conversations_nameword")
    Identity.objects.update(value="Ada", digest=ada)
    execute("SET LOCAL enable_seqscan = off; SET LOCAL random_page_cost = 1000")
    tables = ["conversations_conversation", "conversations_identity", "conversations_nameword"]
    watch = Watch(tables, most_entries=4_500, monkeypatch=monkeypatch)
    with watch.step("searching"):
        by_name = [search.by_name(chatbot=chatbot, name=name) for name in ("ada", "a", "ada love", "ada lovelace7")]
        by_value = search.by_value(chatbot=chatbot, variable=uci, value="Ada")
    assert [found.has_more for found in by_name] == [True] * 4
    assert by_value.has_more
    assert not watch.findings, "\n\n".join(map(str, watch.findings))


def test_by_value_it_finds_the_newest_as_the_log_shows_them(chatbot, neighbour, monkeypatch) -> None:
    made = [
        conversation_of(chatbot, "42", messages=0, started_at=NOON + timedelta(hours=number)) for number in range(4)
    ]
    conversation_of(chatbot, "4", "420", messages=0)
    conversation_of(neighbour, "42", messages=0)
    mark(made[2])

    def found() -> SearchResult:
        return search.by_value(chatbot=chatbot, variable=uci_of(chatbot), value="42")

    assert numbers(found()) == [row.pk for row in reversed(made)]
    assert [row.is_closed for row in found().rows] == [False, True, False, False]
    monkeypatch.setattr(search, "MAX_RESULTS", 2)
    assert (numbers(found()), found().has_more) == ([made[3].pk, made[2].pk], True)
    # Which rows are read depends on their position in the table.
    monkeypatch.setattr(search, "MAX_CANDIDATES", 3)
    assert (len(found().rows), found().has_more) == (2, True)
