"""The CSV of conversations: exact bytes, rows, pieces, and many at once."""

import re
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection
from psycopg.pq import TransactionStatus

from chatbots.models import Chatbot
from conversations import csv_cells, transcripts
from conversations.csv_cells import HEADER
from conversations.models import Message
from conversations.transcripts import TranscriptCounts
from tests import factories
from tests.conversations.reading import (
    START,
    counted,
    lines,
    message,
    stored_file,
    transcript,
    transcripts_of,
    wanted,
    written,
)

NAMES = [column.name for column in csv_cells.CONVERSATION_COLUMNS + csv_cells.MESSAGE_COLUMNS]


def counts_of(*, conversations: int, messages: int, shared_left_out: int = 0) -> TranscriptCounts:
    found = [0, conversations + shared_left_out, 0]  # said by the platform
    return TranscriptCounts(conversations, messages, shared_left_out, 0, found)


def test_it_has_exactly_these_bytes(chatbot: Chatbot) -> None:
    conversation = factories.conversation_of(
        chatbot,
        "42",
        messages=0,
        external_id="c-1001",
        language="en",
        user_name="Ada",
        started_at=START + timedelta(microseconds=7),
        has_file_upload=True,
        score=Decimal("7.5"),
        csat_score=4,
        csat_vote="positive",
        csat_comment="=quick",
    )
    first = message(conversation, 'say "hi"\nplease', at=1, external_id="m1")
    message(conversation, "", at=2, external_id="m2", sender="bot", kind="event")
    file = stored_file(conversation, "=pay.csv", message_id=first.pk)
    head = (
        '"c-1001","2026-11-23T09:00:00.000007Z","widget","en","Ada","false","false","true","7.5","4","positive",'
        '"\'=quick","member_id","42",'
    )
    assert written(chatbot).decode() == (
        '"conversation_id","conversation_started_at","user_channel","language","user_name","push","agent_handover",'
        '"file_upload","conversation_score","csat_score","csat_vote","csat_comment","uci_key","uci_value",'
        '"message_id","sent_at","sender","message_kind","text","file_name","file_id"\n'
        f'{head}"m1","2026-11-23T09:00:01.000000Z","user","text","say ""hi""\nplease","\'=pay.csv","{file.pk}"\n'
        f'{head}"m2","2026-11-23T09:00:02.000000Z","bot","event","","",""\n'
    )


def test_it_quotes_every_value_and_leaves_none_out(chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", messages=1, language=None, user_name=None)
    _, line = written(chatbot).decode().splitlines()
    assert len(line.split(",")) == len(NAMES)
    assert all(re.fullmatch(r'"[^"]*"', value) for value in line.split(","))


def test_it_is_a_header_alone_when_there_is_nothing(chatbot: Chatbot) -> None:
    nothing = transcript(chatbot)
    assert nothing.count() == {1: counts_of(conversations=0, messages=0)}
    assert list(nothing.pieces([1])) == [(1, HEADER, 0)]


def test_it_writes_times_in_utc_whatever_the_sessions_zone(chatbot: Chatbot) -> None:
    conversation = factories.conversation_of(chatbot, "42", messages=0, started_at=START)
    message(conversation, "hello", at=1)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL TimeZone = 'Asia/Kathmandu'")
    (line,) = lines(chatbot)
    assert line["conversation_started_at"] == "2026-11-23T09:00:00.000000Z"
    assert line["sent_at"] == "2026-11-23T09:00:01.000000Z"


# --- The lines -----------------------------------------------------------------------------------------


def test_it_is_in_the_order_of_conversation_start_then_message_time_then_id(chatbot: Chatbot) -> None:
    late = factories.conversation_of(chatbot, "42", messages=0, started_at=START + timedelta(hours=1))
    early = factories.conversation_of(chatbot, "42", messages=0, started_at=START)
    for conversation, text, at in [
        (late, "5", 0),
        (early, "3", 2),
        (early, "1", 1),
        (early, "2", 1),
        (early, "4", 9),
    ]:
        message(conversation, text, at=at)
    assert [line["text"] for line in lines(chatbot)] == ["1", "2", "3", "4", "5"]


def test_it_repeats_a_message_for_its_second_file(chatbot: Chatbot) -> None:
    conversation = factories.conversation_of(chatbot, "42", messages=0)
    with_files = message(conversation, "two files", at=1)
    message(conversation, "none", at=2)
    first = stored_file(conversation, "a.pdf", message_id=with_files.pk)
    second = stored_file(conversation, "b.pdf", message_id=with_files.pk)
    factories.UploadedFileFactory.create(conversation=conversation, name="unfinished", message_id=with_files.pk)
    assert [(line["text"], line["file_name"], line["file_id"]) for line in lines(chatbot)] == [
        ("two files", "a.pdf", str(first.pk)),
        ("two files", "b.pdf", str(second.pk)),
        ("none", "", ""),
    ]


def test_it_gives_a_file_without_a_message_a_line_of_its_own(chatbot: Chatbot) -> None:
    conversation = factories.conversation_of(chatbot, "42", messages=0)
    message(conversation, "hello", at=1)
    stored_file(conversation, "alone.pdf")
    elsewhere = factories.conversation_of(chatbot, "another", messages=1)
    stranger = Message.objects.get(conversation=elsewhere)
    stored_file(conversation, "lost.pdf", message_id=stranger.pk)
    found = [(line["message_id"] != "", line["sent_at"] != "", line["file_name"]) for line in lines(chatbot)]
    assert found == [(True, True, ""), (False, False, "alone.pdf"), (False, False, "lost.pdf")]


def test_it_gives_a_conversation_without_messages_one_line(chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", messages=0, user_name="Ada")
    (line,) = lines(chatbot)
    assert (line["user_name"], line["message_id"], line["sent_at"], line["file_id"]) == ("Ada", "", "", "")


@pytest.mark.one_postgresql(reason="one place for two chatbots")
def test_a_transcript_contains_no_data_of_other_chatbots(chatbot: Chatbot, neighbour: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", text="mine")
    for value in ("43", "4", "42 ", " 42", "42\u200b"):
        factories.conversation_of(chatbot, value, text="not mine")
    factories.conversation_of(neighbour, "42", text="not mine")
    former = factories.VariableFactory.create(chatbot=chatbot, name="former", is_uci=False, was_uci=True)
    under_former = factories.conversation_of(chatbot, text="not mine")
    factories.IdentityFactory.create(conversation=under_former, variable=former, value="42")
    assert {line["text"] for line in lines(chatbot)} == {"mine"}


def test_marked_and_erased_conversations_are_left_out(chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", text="live")
    factories.conversation_of(chatbot, "42", text="marked", deletion_request_id=uuid4())
    assert counted(chatbot).conversations == 1
    assert {line["text"] for line in lines(chatbot)} == {"live"}


def test_it_leaves_shared_conversations_out_unless_asked_and_counts_them(chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", text="alone", messages=3)
    factories.conversation_of(chatbot, "42", "7", text="together", messages=2)
    assert counted(chatbot) == counts_of(conversations=1, messages=3, shared_left_out=1)
    assert {line["text"] for line in lines(chatbot)} == {"alone"}
    assert counted(chatbot, include_shared=True) == counts_of(conversations=2, messages=5)
    assert {line["text"] for line in lines(chatbot, include_shared=True)} == {"alone", "together"}


def test_it_counts_a_conversation_as_shared_by_values_of_two_variables(chatbot: Chatbot) -> None:
    conversation = factories.conversation_of(chatbot, "42")
    former = factories.VariableFactory.create(chatbot=chatbot, name="former", is_uci=False, was_uci=True)
    factories.IdentityFactory.create(conversation=conversation, variable=former, value="42")
    assert counted(chatbot).shared_left_out == 1


@pytest.mark.parametrize("values", [("b", "a", "B"), ("B", "b", "a")])
def test_it_names_the_lowest_of_several_identities(chatbot: Chatbot, values: tuple[str, ...]) -> None:
    factories.conversation_of(chatbot, *values, messages=1)
    (line,) = lines(chatbot, "a", include_shared=True)
    assert (line["uci_key"], line["uci_value"]) == ("member_id", "B")


# --- In pieces, and many at once -----------------------------------------------------------------------


def test_it_comes_in_pieces_and_counts_its_lines(chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", messages=50, text="x" * 10_000)
    pieces = list(transcript(chatbot).pieces([1]))
    assert sum(piece.lines for piece in pieces) == 50
    assert len(pieces) > 5
    sizes = [len(piece.data) for piece in pieces[:-1]]
    assert all(transcripts.CHUNK_BYTES <= size < transcripts.CHUNK_BYTES + 20_000 for size in sizes)


def test_it_can_be_left_in_the_middle(chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", messages=100, text="x" * 100_000)
    pieces = transcript(chatbot).pieces([1])
    next(pieces)
    pieces.close()

    assert connection.connection.info.transaction_status != TransactionStatus.ACTIVE  # the COPY has ended


@pytest.mark.one_postgresql(reason="one place for two chatbots")
def test_many_are_read_at_once_each_as_if_it_were_alone(chatbot: Chatbot, neighbour: Chatbot) -> None:
    """File numbers may have gaps and different numbers of digits."""
    whose = {
        3: (chatbot, "nobody"),
        7: (chatbot, 'a "quoted"\n"7","b'),
        8: (chatbot, "nobody either"),
        10: (neighbour, "42"),
        99: (chatbot, "42"),
        100: (chatbot, "../../42"),
        1_000: (chatbot, "\U0001f600"),
        10**18: (chatbot, "still nobody"),
    }
    for chatter in whose.values():
        if "nobody" not in chatter[1]:
            for _ in range(3):
                factories.conversation_of(*chatter, text='7\n"8","9","\n"99","', messages=4)
    factories.conversation_of(chatbot, "42", "\U0001f600", text="shared")
    read = transcripts_of(*(wanted(*chatter, place=place) for place, chatter in whose.items()))

    files: dict[int, bytes] = {}
    lines: Counter[int] = Counter()
    for piece in read.pieces(whose):
        files[piece.place] = files.get(piece.place, b"") + piece.data
        lines[piece.place] += piece.lines

    assert files == {place: written(*chatter) for place, chatter in whose.items()}
    assert list(files) == list(whose)
    assert read.count() == {place: counted(*chatter) for place, chatter in whose.items()}
    assert {place: lines[place] for place in whose} == {
        place: count.messages for place, count in read.count().items()
    }
    assert files[3] == HEADER


def test_one_conversation_can_be_in_two_files(chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", "43", text="together")
    both = transcripts_of(
        wanted(chatbot, "42", place=1, include_shared=True),
        wanted(chatbot, "43", place=2, include_shared=True),
        wanted(chatbot, "43", place=3),
    )
    pieces = list(both.pieces([1, 2, 3]))
    assert [(piece.place, piece.lines) for piece in pieces] == [(1, 2), (2, 2), (3, 0)]
    assert pieces[0].data == pieces[1].data


def test_a_file_that_ends_with_a_piece_is_followed_by_the_next(chatbot: Chatbot) -> None:
    factories.conversation_of(chatbot, "42", messages=1, text="x" * transcripts.CHUNK_BYTES)
    factories.conversation_of(chatbot, "43", messages=1, text="short")
    pieces = list(transcripts_of(wanted(chatbot, "42", place=1), wanted(chatbot, "43", place=2)).pieces([1, 2]))
    assert [(piece.place, piece.lines) for piece in pieces] == [(1, 1), (2, 1)]
    assert [piece.data for piece in pieces] == [written(chatbot, "42"), written(chatbot, "43")]
