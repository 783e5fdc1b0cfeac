"""A clean ending of a run, in which each kind of violation can be planted (`planted.py`)."""

import csv
import hashlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.oracle import evidence
from tests.oracle.checks import Checks
from tests.oracle.conversations import midnight_of
from tests.oracle.evidence import Count, Evidence, ExtractRow, ObjectVersion, RequestRow
from tests.oracle.model import KEPT, Conversation, Model, Request, now
from tests.oracle.words import Words

BOT, OTHER_BOT = "acme", "globex"
KEY = "acme/chatter_data_exports/somebody/20261127_120000_conversation_export.csv"
CLIENT_KEY = "own/chatter_data_exports/somebody/20261127_120000_conversation_export.csv"
DAY_KEY = "acme/daily_conversations_extracts/2026-11-26_conversations_extract.csv"
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
MONTH = ("2026-11", "widget")
CONTENT = b"the content of a file"
_NAMES = (
    *("conversation_id", "user_name", "csat_comment", "uci_value"),
    *("message_id", "message_kind", "text", "file_id", "file_name"),
)


def csv_of(*lines: dict[str, str]) -> bytes:
    written = io.StringIO()
    writer = csv.DictWriter(written, _NAMES, restval="", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return written.getvalue().encode()


def line_of(conversation: Conversation, **changes: str) -> dict[str, str]:
    [(message, text)] = conversation.texts.items()
    return {"conversation_id": conversation.id, "message_id": message, "text": text, "message_kind": "text"} | changes


@dataclass
class Scene:
    """A chatter who was erased, with the request, and a chatter who was exported and is whole."""

    model: Model
    evidence: Evidence
    gone: Conversation
    whole: Conversation
    deletion: Request
    export: Request

    @property
    def message(self) -> str:
        """The id of the message of the whole chatter."""
        return min(self.whole.texts)

    def checks(self, **options: Any) -> Checks:
        return Checks(self.model, self.evidence, callbacks=[BOT], **options)

    def kinds(self, **options: Any) -> set[str]:
        return {kind for kind, _ in self.checks(**options).all()}

    def row(self, request: Request, **changes: object) -> None:
        self.evidence.requests[request.id] = self.evidence.requests[request.id]._replace(**changes)

    def conversation(self, conversation: Conversation, **changes: object) -> None:
        number = conversation.number or 0
        self.evidence.conversations[number] = self.evidence.conversations[number]._replace(**changes)

    def refuse_without_reason(self) -> None:
        """Add a refused identity that the model does not have."""
        self.whole.is_refused = False
        self.conversation(self.whole, refused=1)

    def facts(self, conversation: Conversation, **changes: object) -> None:
        """Change fields in the rows of a conversation."""
        self.conversation(conversation, facts=self.evidence.conversations[conversation.number or 0].facts | changes)

    def add(self, key: str, body: str | bytes) -> None:
        raw = body if isinstance(body, bytes) else body.encode()
        self.evidence.objects.versions.append(ObjectVersion(key, "1", raw))

    def put(self, key: str, body: bytes) -> None:
        """Put an object in the place of another."""
        self._drop(key)
        self.add(key, body)

    def exported(self, raw: bytes, *, rows: int = 1) -> None:
        """Set the content of the export's file, with matching fields of the request."""
        self.put(KEY, raw)
        self.row(self.export, **_file_at(KEY, raw) | {"rows": rows})

    def in_table(self, table: str, text: str) -> None:
        self.evidence.tables.append((table, f"1\t{text}\t\\N"))

    def log(self, text: str) -> None:
        self.evidence.logs["web.log"] = text

    def end_as(self, status: str) -> None:
        """End the export with this status, in the model and in the evidence."""
        self.export.status = status
        self.row(self.export, status=status)

    # --- What is planted ---------------------------------------------------------------------------------

    def of_another_bot(self) -> Conversation:
        """Add a chatter with a conversation in another chatbot."""
        conversation = new_conversation(self.model, OTHER_BOT, 9)
        self.evidence.conversations[9] = row_of(conversation)
        self.evidence.usage[OTHER_BOT] = {MONTH: Count(1, 0)}
        self.add("uploads/9", CONTENT)
        return conversation

    def revive(self) -> None:
        """Store what must have been refused."""
        conversation = new_conversation(self.model, BOT, 3)
        conversation.tried = set(self.gone.people)
        self.evidence.conversations[3] = row_of(conversation)
        conversation.number, conversation.is_barred = None, True
        self.evidence.usage[BOT] = {MONTH: Count(3, 1)}

    def remove_after(self, request: Request) -> None:
        """Remove the export of a chatter whose request was over before."""
        self.export.asked_at = self.export.ended_at = now()
        self.row(self.export, key=None)
        self._drop(KEY)
        if request.kind == "redaction":
            self.whole.redacted["x"] = request
            self.whole.tried_texts = self.whole.tried_texts | {"x": ""}
            self.whole.sent_at["x"] = NOON
        else:
            self.model.file(request)
        request.asked_at = request.ended_at = self.export.asked_at - timedelta(hours=1)

    def outlive_grace(self) -> None:
        """Let the file of the export contain a chatter who was erased meanwhile, after its grace."""
        self.export.possibly, self.export.is_aged = {self.gone}, True
        self.exported(csv_of(line_of(self.whole), line_of(self.gone)), rows=2)

    def at_client(self, raw: bytes | None) -> None:
        """Have the export lie in the client's bucket, with this content."""
        self._drop(KEY)
        self.row(self.export, key=CLIENT_KEY, hosting="client")
        self.evidence.client_objects.versions.append(ObjectVersion(CLIENT_KEY, "1", raw))

    def in_forgotten_file(self, conversation: Conversation) -> None:
        """Have a conversation in a file of the client's bucket whose key was forgotten with its chatter."""
        self._also("e3", hosting="client")
        self.model.file(Request(BOT, "export", "k3", value=self.gone.name, id="e3", status="completed"))
        self.evidence.client_objects.versions.append(ObjectVersion(CLIENT_KEY, "1", csv_of(line_of(conversation))))

    def repeat_for(self, conversation: Conversation) -> None:
        """Let a redaction file an export again, and let the new file contain another chatter."""
        raw, key = csv_of(line_of(conversation)), KEY.replace("120000", "130000")
        self._also("e2", repeats="e", **_file_at(key, raw))
        self.add(key, raw)

    def _drop(self, key: str) -> None:
        self.evidence.objects.versions[:] = [stored for stored in self.evidence.objects.versions if stored.key != key]

    def _also(self, name: str, **changes: object) -> None:
        """Add the row of a completed export, with its log entry and callback."""
        self.evidence.requests[name] = request_of(name, "export", **changes)
        self.evidence.events.append((name, "request.completed"))
        self.evidence.taken[name] = {"request.completed": {f"c-{name}"}}


def _file_at(key: str, raw: bytes) -> dict[str, object]:
    digest = hashlib.sha256(raw).hexdigest()
    return {"key": key, "hosting": "hosted", "rows": 1, "bytes": len(raw), "sha256": digest}


def _facts(model: Model, conversation: Conversation) -> dict[str, object]:
    names = ("user_name", "language", "csat_comment")
    personal: dict[str, object] = {name: model.words.of_conversation(conversation.index) for name in names}
    kept = {"channel": "widget", "push": True, "agent_handover": False}
    scores = {"score": 7.5, "csat_score": 4, "csat_vote": "positive"}
    return personal | kept | scores | {"variables": {"pass": model.words.of_conversation(conversation.index)}}


def new_conversation(model: Model, bot: str, number: int) -> Conversation:
    conversation = model.conversation(bot, NOON)
    conversation.number, conversation.people = number, {model.person().value}
    conversation.tried = set(conversation.people)
    message, text, name = (model.words.of_conversation(conversation.index) for _ in range(3))
    conversation.texts = conversation.tried_texts = {message: text}
    conversation.sent_at = {message: NOON}
    conversation.facts = _facts(model, conversation)
    conversation.files, conversation.tried_files = {name}, {name: hashlib.sha256(CONTENT).hexdigest()}
    conversation.documents = [{}]
    return conversation


def row_of(conversation: Conversation, *, is_deleted: bool = False) -> evidence.ConversationRow:
    number, facts = conversation.number or 0, dict(conversation.facts)
    if is_deleted:
        left = {name: value if name in KEPT else None for name, value in facts.items()} | {"variables": {}}
        return evidence.ConversationRow(
            conversation.bot, number, None, True, {}, {}, {}, left, midnight_of(conversation), True
        )
    texts = {message: ("text", text) for message, text in conversation.texts.items()}
    files = {f"{name}.txt": f"uploads/{number}" for name in conversation.files}
    return evidence.ConversationRow(
        conversation.bot,
        number,
        conversation.id,
        False,
        texts,
        files,
        dict.fromkeys(conversation.people, "platform"),
        facts,
        conversation.began,
        True,
    )


def request_of(name: str, kind: str, **changes: object) -> RequestRow:
    plain = RequestRow(name, BOT, kind, "completed", "", "", 0, 0, 0, None, "", 0, 0, "", None, NOON, NOON)
    return plain._replace(**changes)


def a_scene() -> Scene:
    model = Model(Words())
    gone, whole = (new_conversation(model, BOT, number) for number in (1, 2))
    deletion = model.file(
        Request(BOT, "deletion", "k1", value=min(gone.people), surely={gone}, id="d", status="completed")
    )
    export = model.file(
        Request(BOT, "export", "k2", value=min(whole.people), surely={whole}, id="e", status="completed")
    )
    export.texts = {whole.id: dict(whole.texts)}
    export.ended_at = now()
    raw = csv_of(line_of(whole))
    found = Evidence(
        conversations={1: row_of(gone, is_deleted=True), 2: row_of(whole)},
        requests={
            "d": request_of("d", "deletion", conversations=1, messages=1, files=1),
            "e": request_of("e", "export", conversations=1, messages=1, **_file_at(KEY, raw)),
        },
        events=[("d", "request.completed"), ("e", "request.completed")],
        taken={one: {"request.completed": {f"c-{one}"}} for one in ("d", "e")},
        extracts=[
            ExtractRow(
                BOT, "2026-11-26", NOON - timedelta(hours=12), NOON + timedelta(hours=12), "done", "hosted", DAY_KEY
            )
        ],
        usage={BOT: {MONTH: Count(2, 1)}},
    )
    scene = Scene(model, found, gone, whole, deletion, export)
    scene.add(KEY, raw)
    scene.add(DAY_KEY, raw)
    scene.add("uploads/2", CONTENT)
    return scene
