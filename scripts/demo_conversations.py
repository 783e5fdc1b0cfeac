"""The demo's data: a few conversations of Tern Ferries, an invented company. No two people say the same."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

SLUG = "tern-ferries"
UCI = "member_id"

NADIA = "NF-2041"  # asks for her data, then has everything deleted, the export included
OMAR = "OH-7719"  # asks for his data, then has it deleted, and keeps the export
RUTH = "RC-3300"  # asks for nothing

SESSION = "nadias-session-c0ffee5d41"  # of the web shop; only its server can identify her by it

Document = dict[str, Any]
Line = tuple[str, str, str]  # sender, kind, text

PHOTO_NAME = "nadia-torn-ticket.txt"
PHOTO = b"A stand-in for a photo: Nadia Froberg, cabin 12, ticket torn in half."

_NAMES = {NADIA: "Nadia Fröberg", OMAR: "Omar Haddad", RUTH: "Ruth Castellan"}


def file_documents(now: datetime) -> list[Document]:
    """The conversations that are imported from a file."""
    return [
        _document(
            "nadia-1",
            NADIA,
            now - timedelta(days=9),
            [
                ("bot", "event", "Nadia opened the chat on the timetable page"),
                ("bot", "text", "Welcome aboard, Nadia! What can I do for you?"),
                ("user", "quick_reply", "Change Nadia's booking"),
                ("user", "text", "=HYPERLINK is what my ticket shows instead of the cabin number 🙈"),
                ("bot", "text", "That should read cabin 12, I am sending it again to your mail."),
            ],
            score=7.5,
            csat={"score": 9, "vote": "positive", "comment": "solved my cabin riddle in a minute"},
            custom_variables={UCI: NADIA, "pass": "north-shore-season"},
        ),
        _document(
            "nadia-2",
            NADIA,
            now - timedelta(days=2),
            [
                ("user", "file", "Here is the torn ticket"),
                ("agent", "text", "Thank you Nadia, Jo here. I have issued a new one, valid on the 18:40 sailing."),
                ("user", "text", "tack så mycket, that saves my weekend"),
            ],
            channel="whatsapp",
            agent_handover=True,
            csat={"score": 8, "vote": "positive"},
        ),
        _document(
            "omar-1",
            OMAR,
            now - timedelta(days=5),
            [
                ("user", "text", "هل يمكنني اصطحاب دراجتي على العبّارة؟"),
                ("bot", "text", "Bicycles ride along for free on every sailing, Mr Haddad."),
                ("user", "text", "And on the one at seven in the morning?"),
                ("bot", "text", "On that one too; board by the car ramp."),
            ],
            language="ar",
            score=9.0,
        ),
        _document(
            "ruth-1",
            RUTH,
            now - timedelta(days=8),
            [
                ("user", "text", "Is the harbour café open on Sundays?"),
                ("bot", "text", "From ten to four, Ruth."),
            ],
            csat={"score": 3, "vote": "negative", "comment": "closed when I came"},
        ),
        _document(
            "ruth-2",
            RUTH,
            now - timedelta(days=1),
            [
                ("bot", "push", "The 09:15 sailing leaves twenty minutes late."),
                ("user", "text", "Thanks for telling me in time"),
            ],
            channel="messenger",
            push=True,
        ),
        _document(
            "nobody-1",
            None,
            now - timedelta(days=4),
            [("user", "text", "Do you take dogs?"), ("bot", "text", "Gladly, on a lead.")],
        ),
    ]


def api_document(now: datetime) -> Document:
    """The conversation that is sent over the API."""
    lines = [
        ("user", "text", "One more thing: please forget my old street, Lindvägen 4"),
        ("bot", "text", "I cannot do that myself, but you can have all your chats deleted."),
        ("user", "text", "Then I would like that, and a copy first"),
    ]
    return _document("nadia-3", NADIA, now - timedelta(hours=3), lines)


def session_document(now: datetime) -> Document:
    """A conversation of Nadia without her number: it came with the session of the web shop."""
    lines = [
        ("user", "text", "Can my cello travel in the cabin with me?"),
        ("bot", "text", "It can, a cello counts as hand luggage."),
    ]
    fields = {"user_name": _NAMES[NADIA], "user_channel_variables": {"session": SESSION}}
    return _document("nadia-4", None, now - timedelta(minutes=5), lines, **fields)


def _document(name: str, chatter: str | None, started_at: datetime, lines: list[Line], **fields: Any) -> Document:
    """A conversation document with unique ids, so that a search for them finds nothing else."""
    started_at = started_at.astimezone(UTC).replace(microsecond=0)
    document: Document = {
        "id": f"tf-{name}",
        "channel": "widget",
        "language": "en",
        "started_at": started_at.isoformat(),
        "messages": [
            {
                "id": f"tf-{name}-m{number}",
                "sender": sender,
                "kind": kind,
                "text": text,
                "sent_at": (started_at + timedelta(seconds=20 * number)).isoformat(),
            }
            for number, (sender, kind, text) in enumerate(lines, start=1)
        ],
    }
    if chatter is not None:
        document |= {"user_name": _NAMES[chatter], "custom_variables": {UCI: chatter}}
    return document | fields


def of(chatter: str, documents: Iterable[Document]) -> list[Document]:
    """Return the conversations of a chatter."""
    return [document for document in documents if document.get("custom_variables", {}).get(UCI) == chatter]


def message_ids(documents: Iterable[Document]) -> list[str]:
    return [message["id"] for document in documents for message in document["messages"]]


def traces(documents: Iterable[Document]) -> set[str]:
    """Return everything personal in these conversations: ids, names, texts, comments, values of variables."""
    return {trace for document in documents for trace in _traces(document)}


def _traces(document: Document) -> Iterator[str]:
    yield document["id"]
    yield document["user_name"]
    yield from document["custom_variables"].values()
    yield from document.get("user_channel_variables", {}).values()
    for message in document["messages"]:
        yield from (message["id"], message["text"])
    if comment := document.get("csat", {}).get("comment"):
        yield comment
