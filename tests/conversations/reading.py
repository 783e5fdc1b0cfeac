"""Read a chatter's CSV in tests, as a client would."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
from django.db import connection
from psycopg import sql

from chatbots.models import Chatbot
from common.crypto import digest
from conversations import csv_cells
from conversations.models import Conversation, Message, UploadedFile
from conversations.transcripts import TranscriptCounts, Transcripts
from tests import factories

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

WANTED = """
SELECT {place} AS place, {chatbot} AS chatbot_id, {variable} AS variable_id, {digest} AS uci_digest,
       NULL::bytea[] AS conversation_digests, {shared} AS include_shared, {least} AS export_assurance
"""


def wanted(
    chatbot: Chatbot, value: str, *, place: int = 1, include_shared: bool = False, least: str = "any"
) -> sql.Composed:
    uci = factories.uci_of(chatbot)
    return sql.SQL(WANTED).format(
        place=sql.Literal(place),
        chatbot=sql.Literal(chatbot.pk),
        variable=sql.Literal(uci.pk),
        digest=sql.Literal(digest("chatter", uci.public_id, value)),
        shared=sql.Literal(include_shared),
        least=sql.Literal(least),
    )


def transcripts_of(*wanted_ones: sql.Composed, dialect: str = "standard") -> Transcripts:
    connection.ensure_connection()
    plain = cast("psycopg.Connection[Any]", connection.connection)
    chatbots = Chatbot.objects.values_list("pk", flat=True)
    return Transcripts(plain, sql.SQL(" UNION ALL ").join(wanted_ones), chatbot_ids=list(chatbots), dialect=dialect)


def transcript(chatbot: Chatbot, value: str = "42", *, dialect: str = "standard", **options: Any) -> Transcripts:
    return transcripts_of(wanted(chatbot, value, **options), dialect=dialect)


def counted(chatbot: Chatbot, value: str = "42", **options: Any) -> TranscriptCounts:
    return transcript(chatbot, value, **options).count()[1]


def written(chatbot: Chatbot, value: str = "42", **options: Any) -> bytes:
    return b"".join(piece.data for piece in transcript(chatbot, value, **options).pieces([1]))


def lines(chatbot: Chatbot, value: str = "42", **options: Any) -> list[dict[str, str]]:
    """The rows of the file, read as strictly about quotes as RFC 4180."""
    text = io.StringIO(written(chatbot, value, **options).decode(), newline="")
    return list(csv.DictReader(text, strict=True))


def restored(cell: str, separator: str = ",") -> str:
    """The text of a cell of a file with this separator, unguarded as docs/clients/read-the-csv.md says."""
    other = "," if separator == ";" else ";"
    return re.sub(rf"(^|[{other}\t\r\n])'", r"\1", cell)


def cells_by(separator: str, file: bytes) -> Iterator[str]:
    """The cells of a file in a spreadsheet that uses this separator."""
    for row in csv.reader(io.StringIO(file.decode("utf-8-sig"), newline=""), delimiter=separator):
        yield from row


def runs(cell: str) -> bool:
    """Whether a spreadsheet would treat the cell as more than text or a number."""
    seen = unicodedata.normalize("NFKC", re.sub(r'^[\s"\u200b\u2060\ufeff]+', "", cell))
    if re.match(r"[+-]", seen):
        return not re.fullmatch(f"({csv_cells.NUMBER})|({csv_cells.PHONE})", cell) and not seen.startswith("-)")
    return seen.startswith(("=", "@"))


def message(conversation: Conversation, text: str, *, at: int = 0, **fields: Any) -> Message:
    return factories.MessageFactory.create(
        conversation=conversation, text=text, sent_at=START + timedelta(seconds=at), **fields
    )


def stored_file(conversation: Conversation, name: str, **fields: Any) -> UploadedFile:
    return factories.UploadedFileFactory.create(
        conversation=conversation, name=name, state="stored", size=1, sha256="0" * 64, **fields
    )
