"""The chapters of the demo. Each acts as a user, checks the result, and prints it."""

import csv
import hashlib
import html
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

import data_compliance_client as package
from chatbots.buckets import hosted_storage
from conversations.models import Conversation
from conversations.uploads import receive
from scripts import demo_conversations as sample
from scripts import demo_evidence as evidence
from scripts.demo_conversations import NADIA, OMAR, RUTH, SLUG, UCI, Document
from scripts.demo_story import CheckFailed, Story, require

# The longest time of a request here; it takes less than a second.
PATIENCE = 30.0

Request = dict[str, Any]


@dataclass
class Scene:
    """The state that the chapters share."""

    story: Story
    address: str
    client: package.Client
    browser: httpx.Client
    documents: list[Document]
    pages: Path  # where the pages of an export are written
    numbers: dict[str, int] = field(default_factory=dict)  # the platform's id of a conversation -> our number
    exports: dict[str, Request] = field(default_factory=dict)  # UCI value -> the completed request
    deletions: dict[str, Request] = field(default_factory=dict)

    def of(self, chatter: str) -> list[Document]:
        return sample.of(chatter, self.documents)


def send_document(scene: Scene, document: Document) -> None:
    [stored] = scene.client.send([document])
    require(stored.outcome == "created", f"A new conversation was {stored.outcome} by the API instead of created.")
    scene.documents.append(document)
    scene.numbers |= {str(row.external_id): row.pk for row in Conversation.objects.all()}
    require(len(scene.numbers) == len(scene.documents), "Not every conversation has a row of its own.")
    messages = len(sample.message_ids(scene.documents))
    require(
        evidence.count("conversations_message") == messages, f"There are not {messages} messages in the database."
    )
    scene.story.fact(
        f"One more came over the API with a token: now there are {len(scene.documents)} conversations with "
        f"{messages} messages, of three people and an unknown one"
    )


def add_file(scene: Scene) -> None:
    conversation = Conversation.objects.get(pk=scene.numbers["tf-nadia-2"])
    upload = receive(
        conversation=conversation,
        name=sample.PHOTO_NAME,
        content_type="text/plain",
        chunks=[sample.PHOTO],
        message_external_id="tf-nadia-2-m1",
    )
    require(hosted_storage().read(upload.object_key) == sample.PHOTO, "The uploaded file is not in the bucket.")
    scene.story.fact("Nadia's torn ticket, a file that came with her message, lies in the bucket")


def refuse_bad_signature(scene: Scene) -> None:
    stranger = package.Client(scene.address, SLUG, signing_secret="not the secret")  # noqa: S106
    try:
        stranger.delete(key=UCI, value=NADIA)
    except package.codes.InvalidSignature:
        pass
    else:
        raise CheckFailed("A deletion with a wrong signature was accepted.")
    require(evidence.count("compliance_compliancerequest") == 0, "A request with a wrong signature was stored.")
    scene.story.fact("A deletion with a wrong signature is refused, 401 invalid_signature, and nothing is filed")


def export(scene: Scene) -> None:
    for chatter in (NADIA, OMAR):
        request, seconds = _carry_out(scene, scene.client.export, chatter)
        scene.exports[chatter] = request
        scene.story.fact(
            f"An export of {chatter} is accepted with HTTP 200 and completed {seconds:.1f} s later: "
            f"{request['export']['rows']} rows, {request['export']['bytes']:,} bytes"
        )
    _check_csv(scene, NADIA)
    _check_csv(scene, OMAR)
    _write_pages(scene)


def _write_pages(scene: Scene) -> None:
    request, _ = _carry_out(scene, scene.client.export, RUTH, formats=["html", "json"])
    scene.exports[RUTH] = request
    # Each file is checked against the manifest.
    scene.client.download(request["request_id"], scene.pages)
    shown = html.unescape((scene.pages / "page-1.html").read_text())
    texts = [message["text"] for document in scene.of(RUTH) for message in document["messages"]]
    require(all(text in shown for text in texts), "A message of Ruth is not on her pages.")
    scene.story.fact(
        f"Ruth's export has pages to read and JSON Lines for programs, with her {len(texts)} messages. To look at "
        f"them, open {'/'.join(scene.pages.parts[-3:])}/index.html"
    )


def _check_csv(scene: Scene, chatter: str) -> None:
    export = scene.exports[chatter]["export"]
    content = hosted_storage().read(export["key"])
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    hers = sample.message_ids(scene.of(chatter))
    name = scene.of(chatter)[0]["user_name"]
    require(
        sorted(row["message_id"] for row in rows) == sorted(hers),
        f"The CSV of {chatter} does not hold each message of theirs exactly once.",
    )
    texts = {message["id"]: message["text"] for document in scene.of(chatter) for message in document["messages"]}
    require(
        all(row["text"].removeprefix("'") == texts[row["message_id"]] for row in rows),
        f"A text in the CSV of {chatter} is not what was said.",
    )
    others = [one for one in scene.documents if one not in scene.of(chatter) and one.get("user_name")]
    require(
        not evidence.found(sample.traces(others), [content]),
        f"The CSV of {chatter} contains data of another person.",
    )
    digest = hashlib.sha256(content).hexdigest()
    require(
        (len(rows), len(content), digest) == (export["rows"], export["bytes"], export["sha256"]),
        f"Rows, bytes or SHA-256 of the CSV of {chatter} are not those in the status.",
    )
    scene.story.fact(
        f"{name}'s CSV in the bucket holds each of the {len(hers)} messages once and no others; size and SHA-256 "
        "are as the status says"
    )
    if chatter == NADIA:
        scene.story.show("It begins:")
        scene.story.quote(content.decode().splitlines()[:3])


def delete(scene: Scene) -> None:
    before = _counts()
    neighbours = evidence.rows_of(_ids_of_others(scene))
    everything = sample.traces([*scene.of(NADIA), *scene.of(OMAR)]) | {sample.PHOTO_NAME, sample.PHOTO.decode()}
    places = [evidence.dump(), *evidence.keys_and_contents(evidence.objects())]
    missed = everything - evidence.found(everything, places)
    require(not missed, f"The search for what is to be erased does not find {len(missed)} things that are there.")
    scene.story.fact(
        f"Nadia and Omar left {len(everything)} traces (texts, ids, names, comments, values, a file): a search of "
        "the whole database and bucket finds each, so it would find what stays behind"
    )
    _delete_with_the_export(scene)
    _delete_without_the_export(scene)
    _check_counts(scene, before, _counts())
    require(
        evidence.rows_of(_ids_of_others(scene)) == neighbours,
        "A row of another person changed, though no request was about them.",
    )
    scene.story.fact(f"Every row of {RUTH} and of the unknown person is what it was, {len(neighbours)} in all")


def _delete_with_the_export(scene: Scene) -> None:
    request, seconds = _carry_out(scene, scene.client.delete, NADIA, erase_exports=True)
    scene.deletions[NADIA] = request
    counts = request["counts"]
    expected = {
        "conversations": len(scene.of(NADIA)),
        "messages": len(sample.message_ids(scene.of(NADIA))),
        "files": 1,
        "exports": 1,
    }
    reported = {store: counts[store] for store in expected}
    require(reported == expected, f"The deletion of {NADIA} reports {reported} erased instead of {expected}.")
    require(
        not hosted_storage().exists(scene.exports[NADIA]["export"]["key"]),
        f"The export of {NADIA} is still in the bucket.",
    )
    scene.story.fact(
        f"A deletion of {NADIA}, her exports included, is completed after {seconds:.1f} s: {counts['conversations']} "
        f"conversations, {counts['messages']} messages, {counts['files']} file, {counts['exports']} export erased"
    )


def _delete_without_the_export(scene: Scene) -> None:
    request, seconds = _carry_out(scene, scene.client.delete, OMAR)
    scene.deletions[OMAR] = request
    require(request["counts"]["exports"] == 0, f"The deletion of {OMAR} erased the export he had just asked for.")
    export = scene.client.request(scene.exports[OMAR]["request_id"]).data["export"]
    require(hosted_storage().exists(export["key"]), f"The fresh export of {OMAR} is gone.")
    until = datetime.fromisoformat(export["expires_at"])
    left = until - datetime.now(UTC)
    require(timedelta(days=6, hours=23) < left <= timedelta(days=7), f"The export of {OMAR} is kept for {left}.")
    scene.story.fact(
        f"A plain deletion of {OMAR} is completed after {seconds:.1f} s; the export he asked for just now is his "
        f"copy: it is kept until {until:%Y-%m-%d}, then removed"
    )


def search_traces(scene: Scene) -> None:
    hers = sample.traces(scene.of(NADIA)) | {sample.PHOTO_NAME, sample.PHOTO.decode()}
    his = sample.traces(scene.of(OMAR))
    dump, stored = evidence.dump(), evidence.objects()
    left = evidence.found(hers, [dump])
    require(not left, f"{len(left)} traces of {NADIA} are still in the database.")
    left = evidence.found(hers, evidence.keys_and_contents(stored))
    require(not left, f"{len(left)} traces of {NADIA} are still in the bucket.")
    scene.story.fact(
        f"Of Nadia's {len(hers)} traces none is left: not in a dump of all tables ({len(dump.splitlines()):,} "
        f"lines), not in any version of any object ({len(stored)} in the bucket)"
    )
    kept = scene.exports[OMAR]["export"]["key"]
    require(evidence.found(his, [dump]) <= {OMAR}, f"A trace of {OMAR} is still in the database.")
    naming = [line for line in dump.splitlines() if OMAR in line]
    require(
        len(naming) == 1 and kept in naming[0], f"The database names {OMAR} elsewhere than in the kept export's key."
    )
    elsewhere = {key: content for key, content in stored.items() if not key.startswith(kept)}
    require(
        not evidence.found(his, evidence.keys_and_contents(elsewhere)),
        f"A trace of {OMAR} is in the bucket outside the kept export.",
    )
    scene.story.fact(f"Of Omar's {len(his)} traces none is left but in the copy that is kept, and in its key")
    in_logs = evidence.found(hers | his, evidence.logs())
    require(not in_logs, f"{len(in_logs)} traces are in a log.")
    scene.story.fact("None of it ever stood in a log of the web server, the workers, PostgreSQL or the S3 server")


def show_the_log(scene: Scene) -> None:
    page = scene.browser.get("/admin/conversations/?since=2020-01-01")
    deleted = [*scene.of(NADIA), *scene.of(OMAR)]
    require(page.status_code == 200, f"The conversations log in the admin was answered {page.status_code}.")
    require(
        page.text.count("Deleted conversation") == len(deleted),
        f'The log does not show {len(deleted)} entries "Deleted conversation".',
    )
    numbers = [scene.numbers[document["id"]] for document in deleted]
    for number in numbers:
        status = scene.browser.get(f"/admin/conversations/{number}/").status_code
        require(status == 410, f"A deleted conversation was opened in the admin: {status} instead of 410.")
    rows = Conversation.objects.in_bulk(numbers)
    for document, number in zip(deleted, numbers, strict=True):
        _check_kept(document, rows[number])
    scene.story.fact(
        f'The log in the admin shows {len(deleted)} times "Deleted conversation" with what is kept; none can be '
        "opened (410)"
    )
    scene.story.show(*_as_table([rows[number] for number in numbers]))


def _check_kept(document: Document, row: Conversation) -> None:
    csat = document.get("csat", {})
    kept = {
        "channel": document["channel"],
        "started_at": datetime.fromisoformat(document["started_at"]).replace(hour=0, minute=0, second=0),
        "has_agent_handover": document.get("agent_handover", False),
        "has_push": document.get("push", False),
        "has_file_upload": any(message["kind"] == "file" for message in document["messages"]),
        "score": document.get("score"),
        "csat_score": csat.get("score"),
        "csat_vote": csat.get("vote"),
    }
    for name, value in kept.items():
        require(getattr(row, name) == value, f"A deleted conversation does not keep its {name}.")
    for name in ("external_id", "user_name", "language", "message_count", "last_message_at", "csat_comment"):
        require(getattr(row, name) is None, f"A deleted conversation still has its {name}.")


def _as_table(rows: Sequence[Conversation]) -> list[str]:
    lines = [f"{'number':>6}  {'conversation':<20}  {'day':<10}  {'channel':<10}  {'score':>5}  CSAT"]
    for row in rows:
        score = "" if row.score is None else str(row.score)
        csat = "" if row.csat_score is None else f"{row.csat_score} {row.csat_vote}"
        began = f"{row.started_at:%Y-%m-%d}"
        lines.append(f"{row.pk:>6}  {row!s:<20}  {began:<10}  {row.get_channel_display():<10}  {score:>5}  {csat}")
    return [line.rstrip() for line in lines]


def send_late_documents(scene: Scene) -> None:
    again = scene.of(NADIA)[0]
    other = again | {"id": "tf-nadia-late"}
    for document, code in ((again, "conversation_deleted"), (other, "chatter_erased")):
        [result] = scene.client.send([document])
        require(result.outcome == "refused", "A late document brought an erased conversation back.")
        found = result.error and result.error.code
        require(found == code, f"The late document was refused as {found} instead of {code}.")
    require(
        Conversation.objects.count() == len(scene.documents),
        "A late document left a conversation behind.",
    )
    scene.story.fact(
        "Late documents are refused: one for a deleted conversation (conversation_deleted), one that names Nadia in "
        "another of that time (chatter_erased)"
    )


def count_tasks(scene: Scene) -> None:
    filed = len(scene.exports) + len(scene.deletions)
    tasks = evidence.tasks_ever_queued()
    require(tasks > 0, "No task was ever queued, but the requests were carried out.")
    scene.story.fact(
        f"The {filed} requests, and the sweep of each minute, took {tasks} django-q2 tasks; a task is only a nudge "
        "and carries no data"
    )


def _carry_out(
    scene: Scene, file: Callable[..., package.Request], chatter: str, **options: Any
) -> tuple[Request, float]:
    """File a signed request and wait until it is completed; return its object and the seconds it took."""
    filed = file(key=UCI, value=chatter, **options)
    began = time.monotonic()
    try:
        request = scene.client.wait(filed.id, timeout=PATIENCE)
    except package.WaitTimeout as error:
        raise CheckFailed(f"The {filed.kind} of {chatter}: {error}") from None
    seconds = time.monotonic() - began
    reason = request.hold_reason or (request.data["error"] or {}).get("detail") or "no reason is given"
    is_completed = request.status == "completed"
    require(is_completed, f"The {request.kind} of {chatter} is {request.status}, not completed ({reason}).")
    return dict(request.data), seconds


def _ids_of_others(scene: Scene) -> list[str]:
    return [
        document["id"]
        for document in scene.documents
        if document not in scene.of(NADIA) and document not in scene.of(OMAR)
    ]


def _counts() -> dict[str, int]:
    return {
        name: evidence.count(f"conversations_{table}", condition)
        for name, (table, condition) in {
            "conversations": ("conversation", "TRUE"),
            "messages": ("message", "TRUE"),
            "identities": ("identity", "value IS NOT NULL"),
            "digests of erased identities": ("identity", "value IS NULL"),
            "other values": ("variablevalue", "TRUE"),
            "files": ("uploadedfile", "TRUE"),
        }.items()
    }


def _check_counts(scene: Scene, before: dict[str, int], after: dict[str, int]) -> None:
    left = len(sample.message_ids(scene.documents)) - len(sample.message_ids([*scene.of(NADIA), *scene.of(OMAR)]))
    expected = {
        "conversations": before["conversations"],
        "messages": left,
        "identities": len(scene.of(RUTH)),
        # A later deletion of his finds the kept export by these.
        "digests of erased identities": len(scene.of(OMAR)),
        "other values": 0,
        "files": 0,
    }
    require(after == expected, f"The tables hold {after} instead of {expected}.")
    changes = ", ".join(f"{name} {before[name]} → {after[name]}" for name in before if name != "conversations")
    scene.story.fact(
        f"There are as many conversations as before, {after['conversations']}, since they count for billing; "
        f"their content is erased: {changes}. The digest goes with Omar's export"
    )
