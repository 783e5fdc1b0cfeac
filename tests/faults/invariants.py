"""What must hold once all faults are mended and all work is done. Each look returns what is wrong, a line for each.

No line has anything personal: people are named by their name in the test, rows by their id, objects by their folder.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial

from scripts.drill_site import wait_until
from tests.faults.people import Document, Person, words_in
from tests.faults.site import Site
from tests.oracle.http import Client, until_known
from tests.oracle.objects import Objects

# What health reports for some minutes after it is over.
TOLD_LATER = {"cluster_gone", "cluster_restarted", "database_refused"}
FINAL = {"completed", "failed", "cancelled", "rejected"}
_FINAL_EVENTS = [f"request.{status}" for status in sorted(FINAL)]


def all_looks(
    site: Site, clients: Mapping[str, Client], people: Collection[Person], *, is_restored: bool = False
) -> list[str]:
    """Look at everything, and return what is wrong. A restored database has rightly forgotten some objects."""
    objects = site.objects()
    requests = [request for person in people for request in (*person.deletions, *person.exports)]
    return [
        *everything_runs(site),
        *ended_once(site, requests),
        *counts_add_up(site, clients, people),
        *erased_and_whole(clients, people, objects),
        *exports_hold_theirs(site, people, objects),
        *([] if is_restored else nothing_orphaned(site, objects)),
        *nothing_personal(site, people, objects),
    ]


def everything_runs(site: Site) -> list[str]:
    """Look whether all programs run, with all their processes, and health reports nothing."""
    try:
        site.wait_for_all()
    except TimeoutError:
        return site.missing()
    return [f"health reports {code}" for code in sorted(site.health() - TOLD_LATER)]


def wait_for_ends(site: Site, requests: Collection[str], *, seconds: float = 180.0) -> list[str]:
    """Wait until all these requests have ended, and return those that have not, with what they wait for."""

    def left() -> list[tuple[str, str]]:
        return site.sql(
            "SELECT id::text, concat_ws(' ', status, hold_reason, waiting_for, error_code)"
            "  FROM compliance_compliancerequest WHERE id = ANY(%s::uuid[]) AND status <> ALL(%s)",
            [list(requests), sorted(FINAL)],
        )

    try:
        wait_until(lambda: not left(), "all requests have ended", seconds=seconds)
    except TimeoutError:
        return [f"request {request} has not ended after {seconds:.0f} s: {status}" for request, status in left()]
    return []


def ended_once(
    site: Site, requests: Collection[str], *, statuses: Mapping[str, Collection[str]] | None = None
) -> list[str]:
    """Look whether each request has ended, completed or with one of its `statuses`, and is logged as ended once."""
    found = dict(
        site.sql(
            "SELECT id::text, status FROM compliance_compliancerequest WHERE id = ANY(%s::uuid[])", [list(requests)]
        )
    )
    events = site.sql(
        "SELECT request_id::text, event FROM chatbots_changelogentry"
        " WHERE request_id = ANY(%s::uuid[]) AND event = ANY(%s)",
        [list(requests), _FINAL_EVENTS],
    )
    ends: dict[str, list[str]] = {request: [] for request in requests}
    for request, event in events:
        ends[request].append(event)
    wrong = []
    for request in requests:
        status = found.get(request)
        if status is None:
            wrong.append(f"request {request} was accepted, and is not there")
        elif status not in (statuses or {}).get(request, {"completed"}):
            wrong.append(f"request {request} is {status}")
        # One that failed and was tried again has failed as often as it says.
        elif [event for event in ends[request] if event != "request.failed" or status == "failed"] != [
            f"request.{status}"
        ]:
            wrong.append(f"request {request} is {status}, and the change log has {ends[request]}")
    return wrong


def counts_add_up(site: Site, clients: Mapping[str, Client], people: Iterable[Person]) -> list[str]:
    """Look whether usage, which is billed, and the counts of deletions are those of what was sent."""
    sent, deleted = Counter[str](), Counter[str]()
    wrong = []
    for person in people:
        sent[person.slug] += person.conversations()
        if person.is_erased:
            deleted[person.slug] += person.conversations()
            wrong += _counts_of(site, person)
    for slug, client in clients.items():
        months = until_known(partial(client.get, "usage?from=2026-01&to=2027-12")).body["months"]
        usage = (sum(each["conversations"] for each in months), sum(each["deleted"] for each in months))
        if usage != (sent[slug], deleted[slug]):
            wrong.append(f"usage of {slug} is {usage}, and sent and deleted were {(sent[slug], deleted[slug])}")
    return wrong


def _counts_of(site: Site, person: Person) -> list[str]:
    """Compare what all deletions of a person have counted with what was sent."""
    found = site.sql(
        "SELECT coalesce(sum(conversations), 0), coalesce(sum(messages), 0), coalesce(sum(files), 0)"
        "  FROM compliance_compliancerequest WHERE kind = 'deletion' AND id = ANY(%s::uuid[])",
        [person.deletions],
    )
    conversations, messages, files = map(int, found[0])
    # A file whose answer was lost was sent again, and is two.
    if (conversations, messages) == (person.conversations(), person.messages()) and files >= len(person.files):
        return []
    expected = (person.conversations(), person.messages(), len(person.files))
    return [f"deletions of {person.name} count {(conversations, messages, files)} instead of {expected}"]


def erased_and_whole(clients: Mapping[str, Client], people: Iterable[Person], objects: Objects) -> list[str]:
    """Look, over the API, whether each conversation is deleted or whole, message by message, as it should be."""
    wrong = []
    contents = {stored.body for stored in objects.versions if stored.key.startswith("uploads/")}
    for person in people:
        for document in person.documents:
            number = person.numbers[document["id"]]
            wrong += [f"{person.name}: {found}" for found in _look_at(clients[person.slug], person, document, number)]
        for content in person.files.values():
            if (content in contents) == person.is_erased:
                wrong.append(f"{person.name}: an uploaded file is {'there' if person.is_erased else 'lost'}")
    return wrong


def _look_at(client: Client, person: Person, document: Document, number: int) -> list[str]:
    answer = until_known(lambda: client.get(f"conversations/{number}"))
    if answer.status != 200:
        return [f"conversation {number} is answered {answer.status}"]
    messages = until_known(lambda: client.get(f"conversations/{number}/messages?limit=1000"))
    expected = _shown(document, is_erased=person.is_erased)
    wrong = [name for name, value in expected.items() if answer.body[name] != value]
    if messages.status != (410 if person.is_erased else 200):
        wrong.append(f"messages ({messages.status})")
    elif not person.is_erased:
        sent = [(one["id"], one["text"]) for one in document["messages"]]
        if [(one["id"], one["text"]) for one in messages.body["results"]] != sent:
            wrong.append("messages")
    how = "as a deletion leaves it" if person.is_erased else "as it was sent"
    return [f"conversation {number} is not {how}: {', '.join(wrong)}"] if wrong else []


def _shown(document: Document, *, is_erased: bool) -> dict[str, object]:
    """Return what the log shows of a conversation: all that was sent, or what a deletion keeps."""
    began = datetime.fromisoformat(document["started_at"]).astimezone(UTC)
    shown = {name: document[name] for name in ("id", "user_name", "language", "channel", "csat")}
    if is_erased:
        began = began.replace(hour=0, minute=0, second=0, microsecond=0)
        shown |= {"id": None, "user_name": None, "language": None, "csat": document["csat"] | {"comment": None}}
    return shown | {"deleted": is_erased, "started_at": f"{began:%Y-%m-%dT%H:%M:%S.%fZ}"}


def exports_hold_theirs(site: Site, people: Iterable[Person], objects: Objects) -> list[str]:
    """Look whether each completed export of somebody who was not erased has all of their messages, and no other's."""
    bodies = {stored.key: stored.body for stored in objects.versions if stored.is_latest and stored.body is not None}
    wrong = []
    for person in people:
        found = site.sql(
            "SELECT r.id::text, e.key, e.hosting FROM compliance_compliancerequest r"
            "  LEFT JOIN compliance_export e ON e.request_id = r.id"
            " WHERE r.id = ANY(%s::uuid[]) AND r.status = 'completed'",
            [person.exports],
        )
        for request, key, hosting in found:
            if person.is_erased or hosting == "client":
                continue
            body = bodies.get(str(key))
            if body is None:
                wrong.append(f"export {request} of {person.name} has no object")
                continue
            lines = csv.DictReader(io.StringIO(body.decode()))
            # A file that came without a message has a line, too.
            texts = sorted(line["text"] for line in lines if line["message_id"])
            sent = sorted(one["text"] for document in person.documents for one in document["messages"])
            if texts != sent:
                wrong.append(
                    f"export {request} of {person.name} has {len(texts)} messages, and not the {len(sent)} sent"
                )
    return wrong


def nothing_orphaned(site: Site, objects: Objects) -> list[str]:
    """Look whether each object has its row, each row its object, and no multipart upload is open."""
    said = site.manage("reconcile_storage", "--json", ends=(0, 3)).document
    kinds = ("orphans", "old_versions", "young", "missing", "of_another_size", "rows")
    wrong = [f"reconcile_storage reports {kind}: {said[kind]}" for kind in kinds if said[kind]]
    if objects.uploads:
        wrong.append(f"{len(objects.uploads)} multipart uploads are open")
    return wrong


def nothing_personal(
    site: Site, people: Iterable[Person], objects: Objects, *, kept_keys: Collection[str] = ()
) -> list[str]:
    """Look for words of the erased in all rows and objects, but those of `kept_keys`, and for any in the logs."""
    people = list(people)
    planted = {word: person.name for person in people for word in person.words()}
    # Somebody else's value may be the same, in another chatbot.
    kept = {word for person in people if not person.is_erased for word in person.words()}
    erased = {word: name for word, name in planted.items() if word not in kept}
    wrong = []
    table = "?"
    for line in site.dump().splitlines():
        if begin := re.match(r"COPY (?:public\.)?(\S+) ", line):
            table = begin[1]
        elif found := words_in(line) & erased.keys():
            wrong.append(f"table {table} has words of {_names(found, erased)}")
    for stored in objects.versions:
        text = f"{stored.key} {(stored.body or b'').decode(errors='replace')}"
        if stored.key not in kept_keys and (found := words_in(text) & erased.keys()):
            wrong.append(f"an object in {stored.key.partition('/')[0]} has words of {_names(found, erased)}")
    for name, text in site.logs().items():
        if found := words_in(text) & planted.keys():
            wrong.append(f"the log {name} has words of {_names(found, planted)}")
    return wrong


def _names(found: Iterable[str], names: Mapping[str, str]) -> str:
    return ", ".join(sorted({names[word] for word in found}))
