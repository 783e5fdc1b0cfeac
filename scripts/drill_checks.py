"""What must hold in a database that was restored: while it is closed, by its replay, and afterwards."""

import random
from collections import Counter
from collections.abc import Collection
from typing import Any

from devservers.postgres import DATABASE
from scripts import demo_evidence as evidence
from scripts.demo_conversations import Document, traces
from scripts.demo_story import require
from scripts.drill_scene import BAKERY, CLINIC, FERRIES, ORCHARD, UCI, Scene
from scripts.drill_site import Service, wait_until

# By the name of the person: what a replay does with their request. Three are not named: Gus's is neither in the
# database nor to be carried out, Kai's is not in the ledger, and nothing of Wim is in the backup.
PLANS = {
    "ada": "erase",
    "ben": "erase",
    "emil": "erase",
    "olga": "erase",
    "eve": "redact",
    "hal": "run",
    "jon": "file",
    "otto": "file",
    "pia": "complete",
    "vera": "remember",
    "ugo": "lost_redaction",
    "dora": "hold",
    "nora": "hold",
    "cleo": "withdraw",
    "gita": "lost_export",
    "mia": "unknown_chatbot",
}
# What another replay of the same backup does otherwise: these were carried out after the first.
PLANS_AGAIN = PLANS | dict.fromkeys(("jon", "otto", "dora", "kai"), "erase")
_REQUESTS = """
SELECT id, status, hold_reason, cutoff_at, attempts, claim_id FROM compliance_compliancerequest ORDER BY id
"""
_COUNTS = """
SELECT (SELECT count(*) FROM conversations_message), (SELECT count(*) FROM conversations_identity),
       (SELECT count(*) FROM conversations_conversation)
"""

State = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]


def state_of(service: Service) -> State:
    """Return what would change if the service did anything for a request."""
    return service.database.sql(_REQUESTS), service.database.sql(_COUNTS)


def is_closed(scene: Scene, code: str = "restored_database") -> None:
    """Check that API, console, health and metrics say that the service is closed."""
    service, client = scene.service, scene.clients[FERRIES]
    calls = {
        "filing": client.post("data-deletion", {"unique_chatter_identifier_key": UCI}),
        "intake": client.post("conversations", scene.people["ida"].documents),
        "reading": client.get("conversations"),
    }
    for name, answer in calls.items():
        require(answer.status == 503, f"{name} is answered {answer.status} by a restored database, not 503.")
        require(answer.body.get("code") == code, f"{name} is refused as {answer.body.get('code')}, not {code}.")
    pages = [service.page(path) for path in ("/admin/login/", "/admin/", "/admin/conversations/")]
    require([status for status, _ in pages] == [503] * 3, f"The console answers {[each[0] for each in pages]}.")
    require("replay_erasures" in pages[0][1], "The console's page does not say what to do.")
    require(service.page("/healthz")[0] == 200, "/healthz does not answer 200.")
    require(code in service.health(), f"manage.py health does not report {code}.")
    problem = service.metrics().get(f'dca_health_problem{{code="{code}"}}')
    require(problem == 1, f"The metric of the problem {code} is {problem}.")
    scene.story.fact(
        f"Every call is answered 503 {code}, every page of the console says what happened; `manage.py health` and "
        "the metrics report it"
    )


def is_served(scene: Scene) -> None:
    """Check that a service is open."""
    status = scene.clients[FERRIES].get("conversations").status
    require(status == 200, f"The {scene.service.name} answers {status}.")
    wrong = scene.service.health() & {"restored_database", "catching_up", "ledger_missing"}
    require(not wrong, f"The {scene.service.name} reports {wrong}.")


def ledger_folders() -> set[str]:
    """Return the service ids for which the ledger has objects."""
    return {key.split("/")[1] for key in evidence.objects() if key.startswith("erasure_ledger/")}


def refuses_commands(scene: Scene) -> None:
    """Check that commands that work on data refuse, and say what to do."""
    for words in (
        ("process_requests",),
        ("request_export", FERRIES, UCI, scene.people["ida"].uci),
        ("apply_retention", "--all"),
    ):
        said = scene.service.manage(*words, ends=(7,))
        require("replay_erasures" in said.out + said.err, f"{words[0]} does not say what to do.")
    scene.story.fact("Commands that file, process or erase refuse, and name `replay_erasures`")


def nothing_moves(scene: Scene, before: State, *, seconds: float) -> None:
    """Check that workers, which have run for so long, have changed nothing."""
    require(state_of(scene.service) == before, "Something moved in a restored database before its replay.")
    scene.story.fact(
        f"Workers have run for {seconds:.0f} s beside Olga's waiting deletion: no request moved, no row went"
    )


def dry_run(scene: Scene) -> None:
    """Check that a dry run names exactly whose requests a replay concerns, and changes nothing."""
    before = state_of(scene.service)
    said = scene.service.manage("replay_erasures", "--dry-run", "--json", ends=(0, 3))
    _are_named(scene, said.document)
    keys = [each["key"] for each in said.document["keys_revoked"]]
    require(keys == [scene.leaked_prefix], f"The dry run revokes the keys {keys}.")
    require(state_of(scene.service) == before, "A dry run changed something.")
    scene.story.took("dry run", said.seconds)
    scene.story.fact(
        f"A dry run ({said.seconds:.0f} s) names exactly {len(PLANS)} requests, their conversations and a key, and "
        "changes nothing"
    )
    scene.story.show(*_table(scene))


def dry_run_again(scene: Scene) -> None:
    """Check that another replay of the same backup carries out the same, and what was done after the first."""
    said = scene.service.manage("replay_erasures", "--dry-run", "--json", ends=(0, 3))
    names = {request_id: name for name, request_id in scene.requests.items()}
    plans = {each["request_id"]: each["plan"] for each in said.document["requests"]}
    found = {names[request_id]: plan for request_id, plan in plans.items() if request_id in names}
    require(found == PLANS_AGAIN, f"The replay names {found} instead of {PLANS_AGAIN}.")
    scene.story.fact(f"A dry run ({said.seconds:.0f} s) names the {len(PLANS_AGAIN)} requests of before both losses")


def replay(scene: Scene, *, kills: int = 3) -> None:
    """Replay, killed some times at a random moment, then to its end."""
    for _ in range(kills):
        begun, seconds = _progress(scene), random.uniform(0.0, 0.3)  # noqa: S311
        went_on = lambda begun=begun: _progress(scene) != begun  # noqa: E731
        if not scene.service.kill_during("replay_erasures", when=went_on, seconds=seconds):
            break
        objects, lines, done = _progress(scene)
        scene.story.fact(
            f"`replay_erasures` is killed {seconds:.2f} s after it went on: {objects} objects are read, of the "
            f"{lines} requests that they name {done} are done"
        )
    said = scene.service.manage("replay_erasures", "--json", ends=(0, 3))
    scene.story.took("the replay's last run", said.seconds)
    scene.story.fact(f"`replay_erasures` goes on and ends ({said.seconds:.0f} s, exit code {said.code})")


def replay_again(scene: Scene) -> None:
    """Check that another replay finds nothing to do."""
    before = state_of(scene.service)
    said = scene.service.manage("replay_erasures", "--json", ends=(0,))
    require(not said.document["requests"], "A second replay names requests.")
    require(state_of(scene.service) == before, "A second replay changed something.")
    scene.story.fact("A second replay finds nothing to do")


def _progress(scene: Scene) -> tuple[int, int, int]:
    """Return how many objects a replay has read, the requests that they name, and how many of these are done."""
    [(objects, lines, done)] = scene.service.database.sql(
        "SELECT (SELECT count(*) FROM compliance_ledgerobject WHERE written_at IS NOT NULL), count(*),"
        " count(*) FILTER (WHERE outcome NOT IN ('', 'filed')) FROM compliance_ledgerline"
    )
    return objects, lines, done


def _are_named(scene: Scene, document: dict[str, Any]) -> None:
    names = {request_id: name for name, request_id in scene.requests.items()}
    requests = document["requests"]
    found = {names.get(each["request_id"], each["request_id"]): each["plan"] for each in requests}
    require(found == PLANS, f"The replay names {found} instead of {PLANS}.")
    meant = {names[each["request_id"]]: set(each["numbers"]) for each in requests if each["plan"] == "erase"}
    expected = {name: scene.numbers_of(name) for name in meant}
    expected["ben"] = {scene.numbers[scene.people["ben"].documents[0]["id"]]}
    require(meant == expected, f"The replay means the conversations {meant} instead of {expected}.")


def _table(scene: Scene) -> list[str]:
    return [f"{name:<6} {scene.requests[name]}  {plan}" for name, plan in PLANS.items()]


# --- Afterwards ------------------------------------------------------------------------------------


def is_open(scene: Scene) -> None:
    """Wait until calls are served and what was filed again is carried out; then check each request."""
    client = scene.clients[FERRIES]
    wait_until(lambda: client.get("conversations").status == 200, "the service serves again")
    scene.story.took("from the loss until it serves again", scene.story.elapsed())
    scene.story.fact("The service serves again")
    for name in ("jon", "olga", "otto", "pia"):
        scene.reaches(name, "completed")
    for name in ("dora", "nora"):
        held = scene.reaches(name, "on_hold")
        require(held["hold_reason"] == "restored", f"The deletion of {name} is held as {held['hold_reason']}.")
        refused = scene.clients[CLINIC].post(f"requests/{scene.requests[name]}/approve", {})
        require(refused.body.get("code") == "officers_only", f"A key's approval is answered {refused.status}.")
    scene.service.manage("approve_request", scene.requests["nora"], ends=(2,))  # it has filed it
    cleo = scene.clients[CLINIC].get(f"requests/{scene.requests['cleo']}").body
    require(cleo["status"] == "cancelled", f"Cleo's deletion is {cleo['status']}, though it was cancelled.")
    for name in ("gus", "kai", "gita", "ugo"):
        slug = scene.people[name].slug
        status = scene.clients[slug].get(f"requests/{scene.requests[name]}").status
        require(status == 404, f"The lost request of {name} is answered {status}.")
    scene.story.fact(
        "The deletions of Jon, Otto and Pia were filed again under their ids, and are done. Dora's and Nora's are on "
        "hold (restored): no key may approve them, and no command what a command has filed. Cleo's is cancelled. The "
        "requests of Gus, Gita, Ugo and Kai are unknown (404): Gita and Ugo are to ask again, Kai's was accepted in "
        "the last seconds and is lost"
    )
    require(scene.leaked is not None and scene.leaked.get("conversations").status == 401, "A revoked token works.")
    scene.story.fact("The token that had leaked is refused (401)")


def goes_through_again(scene: Scene) -> None:
    """Replay once more, without kills, and wait until the service serves."""
    said = scene.service.manage("replay_erasures", "--json", ends=(0, 3))
    client = scene.clients[FERRIES]
    wait_until(lambda: client.get("conversations").status == 200, "the service serves again")
    scene.story.fact(f"`replay_erasures` ends ({said.seconds:.0f} s, exit code {said.code}), and the service serves")
    for name in ("dora", "jon", "kai", "olga", "otto", "pia"):
        scene.reaches(name, "completed")


def lost_exports_are_logged(scene: Scene) -> None:
    """Check that workers, which print no report, log what was lost."""
    line = f"replay.not_carried_out request={scene.requests['gita']} plan=lost_export"
    require(line in scene.service.log("workers"), "The workers' log does not name the lost export.")
    scene.story.fact("The workers' log names Gita's lost export by its id")


def is_verified(scene: Scene) -> None:
    said = scene.service.manage("verify_erasure", "--all")
    scene.story.fact(f"`verify_erasure --all`: {said.out.strip()}")


def nothing_is_left(
    scene: Scene, *, also_erased: Collection[str] = (), lost: Collection[str] = (), is_sent_again: bool = False
) -> None:
    """Check that the database and the bucket have nothing of who was erased, and everything of the others.

    Of whom is `lost`, the backup has nothing either. What was sent after it is there once it `is_sent_again`.
    """
    people = scene.people
    erased = {"ada", "emil", "hal", "hedy", "jon", "mia", "olga", "otto", "pia", "wim", *also_erased}
    gone = set(scene.redacted) | {scene.photo}
    for name in erased:
        gone |= people[name].strings()
    # Another has the value of Ada, and that of Mia.
    gone |= {people[name].uci for name in erased - {"ada", "mia"}}
    first, second, third = people["ben"].documents
    gone |= _strings(first) | _strings(third) | _strings(scene.shared)
    kept = _strings(second)
    for name in people.keys() - erased - {"ben", *lost}:
        kept |= people[name].strings() | {people[name].uci}
    if is_sent_again:
        kept |= _strings(scene.came_back)
    else:
        kept -= traces(document for _, document, _ in scene.sent)
    kept -= scene.redacted
    dump = scene.service.database.run("pg_dump", DATABASE)
    stored = evidence.objects()
    places = [dump, *evidence.keys_and_contents(stored)]
    left = evidence.found(gone, places)
    require(not left, f"{len(left)} strings of erased people are left: {sorted(left)[:5]}.")
    missing = kept - evidence.found(kept, [dump])
    require(not missing, f"{len(missing)} strings of others are gone: {sorted(missing)[:5]}.")
    copied = {message["text"] for message in people["finn"].documents[0]["messages"]}
    require(evidence.found(copied, stored.values()) == copied, "The search does not see what files hold.")
    ledger = [content for key, content in stored.items() if key.startswith("erasure_ledger/")]
    require(ledger and not evidence.found(gone | kept, ledger), "The ledger has a value or a text.")
    scene.story.fact(
        f"A dump of the database and all {len(stored)} objects of the bucket hold none of the {len(gone)} strings of "
        f"those who were erased; the dump holds all {len(kept)} of the others, and the {len(ledger)} objects of the "
        "ledger none at all"
    )


def numbers_hit_nobody(scene: Scene) -> None:
    """Check that whoever has got the numbers of a chatbot that is lost was not hit by what was erased there."""
    rows = scene.service.database.sql(
        "SELECT c.slug, c.id, s.id FROM chatbots_chatbot c JOIN conversations_conversation s ON s.chatbot_id = c.id"
        " WHERE c.slug = ANY(%s) AND s.deletion_request_id IS NULL",
        [[BAKERY, ORCHARD]],
    )
    lost = scene.lost_numbers
    expected = (ORCHARD, lost["chatbots_chatbot"], lost["conversations_conversation"])
    require(rows == [expected], f"Instead of {expected} there is {rows}.")
    scene.story.fact(
        f"{ORCHARD}, which has the number {expected[1]} that {BAKERY} had, still has its person, though the same "
        "value was erased there"
    )


def clients_do_their_part(scene: Scene) -> None:
    """Do what docs/operating.md tells clients to do after a restore, and check each answer."""
    filed, story = dict(scene.requests), scene.story
    scene.chatbot(BAKERY, "--variable", "custom:table")
    story.fact(f"The operator creates {BAKERY} again")
    # Numbers of before are given again, to other conversations.
    for _, document, _ in scene.sent:
        scene.numbers.pop(document["id"], None)
    answered = Counter(_send_again(scene, *one) for one in scene.sent)
    counts = ", ".join(f"{number} {what}" for what, number in sorted(answered.items()))
    scene.upload("tess")
    story.fact(
        f"Clients send again all {len(scene.sent)} documents that they sent since the backup, and a file: {counts}"
    )
    for name, kind in (("eve", "redacted"), ("vera", "redacted"), ("ugo", "text")):
        _first_message_is(scene, name, kind)
    story.fact("Eve's and Vera's messages come back as `redacted`, Ugo's, which nobody had approved, as it was sent")
    scene.redact("ugo")
    scene.reaches("ugo", "on_hold")
    scene.carry_out("kai", "data-deletion")
    scene.carry_out("mia", "data-deletion")
    for name in ("ben", "gita", "vera"):
        scene.carry_out(name, "data-export")
    story.fact(
        "They file again what was lost: Ugo's redaction, which waits for approval again, the deletions of Kai and "
        "Mia, Gita's export. Ben and Vera get exports, too"
    )
    scene.requests |= filed | {"kai": scene.requests["kai"]}


def _send_again(scene: Scene, slug: str, document: Document, expected: str) -> str:
    [result] = scene.answers(slug, document)
    answer: str = result["error"]["code"] if result["error"] else result["outcome"]
    require(answer == expected, f"{document['id']}, sent again, is answered {answer}, not {expected}.")
    if not result["error"]:
        scene.numbers[document["id"]] = result["number"]
    return answer


def _first_message_is(scene: Scene, name: str, kind: str) -> None:
    person = scene.people[name]
    page = scene.clients[person.slug].get(f"conversations/{scene.numbers[person.documents[0]['id']]}/messages").body
    sent = person.documents[0]["messages"][0]
    [(found, text)] = [(each["kind"], each["text"]) for each in page["results"] if each["id"] == sent["id"]]
    expected = (kind, sent["text"] if kind == "text" else "")
    require((found, text) == expected, f"The message of {name} is {found}, not {kind}.")


def late_data_is_refused(scene: Scene) -> None:
    """Check that conversations of Ada that the backup has are refused."""
    ada = scene.people["ada"]
    for result in scene.answers(FERRIES, *ada.documents):
        code = (result["error"] or {}).get("code")
        require(code in {"conversation_deleted", "chatter_erased"}, f"An erased conversation came back ({code}).")
    scene.story.fact("The platform sends again what it sent before the backup, too: Ada's conversations are refused")


def storage_is_compared(scene: Scene) -> None:
    said = scene.service.manage("reconcile_storage", "--json", ends=(0, 3))
    scene.story.fact(
        f"`reconcile_storage` reports (exit code {said.code}) and removes nothing; what is younger than a day it "
        "leaves out, such as Gita's lost export"
    )


def _strings(document: Document) -> set[str]:
    """Return everything personal in a conversation but its UCI value."""
    return traces([document]) - {document["custom_variables"][UCI]}
