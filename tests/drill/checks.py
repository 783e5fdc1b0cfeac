"""What must hold in a database that was restored: while it is closed, by its replay, and afterwards."""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from scripts.demo_story import require
from tests.drill.scene import BAKERY, CLINIC, FERRIES, ORCHARD, Scene
from tests.drill.site import Service
from tests.operated import UCI, Said, wait_until
from tests.oracle import conversations, exports, leftovers
from tests.oracle.checks import Checks
from tests.oracle.evidence import Evidence, gather
from tests.oracle.following import is_whole
from tests.oracle.http import ask
from tests.oracle.model import Model

# By the name of the person: what a replay does with their request. Three are not named: Gus's is neither in the
# database nor to be carried out, Kai's is not in the ledger, and nothing of Wim is in the backup.
PLANS = {
    **dict.fromkeys(("ada", "ben", "emil", "olga"), "erase"),
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
# What another replay of the same backup does otherwise: the first four were carried out after the first, and what
# was filed again is lost again.
PLANS_AGAIN = {
    **PLANS,
    **dict.fromkeys(("jon", "otto", "dora", "kai"), "erase"),
    **dict.fromkeys(("ben again", "gita again", "vera again"), "lost_export"),
    "ugo again": "lost_redaction",
    "mia again": "unknown_chatbot",
}
_REQUESTS = """
SELECT id, status, hold_reason, cutoff_at, attempts, claim_id FROM compliance_compliancerequest ORDER BY id
"""
_COUNTS = """
SELECT (SELECT count(*) FROM conversations_message), (SELECT count(*) FROM conversations_identity),
       (SELECT count(*) FROM conversations_conversation)
"""


def state_of(service: Service) -> list[tuple[Any, ...]]:
    """Return what would change if the service did anything for a request."""
    return service.sql(_REQUESTS) + service.sql(_COUNTS)


def is_closed(scene: Scene) -> None:
    """Check that API, console, health and metrics say that the service is closed."""
    service, client, code = scene.service, scene.client(FERRIES), "restored_database"
    calls = {
        "filing": client.post("data-deletion", {"unique_chatter_identifier_key": UCI}),
        "intake": client.post("conversations", []),
        "reading": client.get("conversations"),
    }
    for name, answer in calls.items():
        said = (answer.status, (answer.body or {}).get("code"))
        require(said == (503, code), f"{name} is answered {said} by a restored database.")
    pages = [ask(f"{service.address}/admin/{path}") for path in ("login/", "", "conversations/")]
    require([page.status for page in pages] == [503] * 3, f"The console answers {[page.status for page in pages]}.")
    require(b"replay_erasures" in pages[0].raw, "The console's page does not say what to do.")
    require(ask(f"{service.address}/healthz").status == 200, "/healthz does not answer 200.")
    require(code in service.health(), f"manage.py health does not report {code}.")
    problem = service.metrics().get(f'dca_health_problem{{code="{code}"}}')
    require(problem == 1, f"The metric of the problem {code} is {problem}.")
    scene.story.fact(
        f"Every call is answered 503 {code}, every page of the console says what happened; `manage.py health` and "
        "the metrics report it"
    )


def is_served(scene: Scene) -> None:
    """Check that a service is open."""
    status = scene.client(FERRIES).get("conversations").status
    require(status == 200, f"The {scene.service.name} answers {status}.")
    wrong = scene.service.health() & {"restored_database", "catching_up", "ledger_missing"}
    require(not wrong, f"The {scene.service.name} reports {wrong}.")


def ledger_folders(service: Service) -> set[str]:
    """Return the service ids for which the ledger has objects."""
    keys = [stored.key.split("/") for stored in service.objects().versions]
    return {key[1] for key in keys if key[0] == "erasure_ledger"}


def refuses_commands(scene: Scene) -> None:
    """Check that commands that work on data refuse, and say what to do."""
    for words in (
        ("process_requests",),
        ("request_export", FERRIES, UCI, scene.people["ida"].person.value),
        ("apply_retention", "--all"),
    ):
        said = scene.service.manage(*words, ends=(7,))
        require("replay_erasures" in said.out + said.err, f"{words[0]} does not say what to do.")
    scene.story.fact("Commands that file, process or erase refuse, and name `replay_erasures`")


def nothing_moves(scene: Scene, before: list[tuple[Any, ...]], *, seconds: float) -> None:
    """Check that workers, which have run for so long, have changed nothing."""
    require(state_of(scene.service) == before, "Something moved in a restored database before its replay.")
    scene.story.fact(
        f"Workers have run for {seconds:.0f} s beside Olga's waiting deletion: no request moved, no row went"
    )


def dry_run(scene: Scene) -> None:
    """Check that a dry run names exactly whose requests a replay concerns, and changes nothing."""
    before = state_of(scene.service)
    said, names = _plans(scene, PLANS)
    requests = [each for each in said.document["requests"] if each["plan"] == "erase"]
    meant = {names[each["request_id"]]: set(each["numbers"]) for each in requests}
    expected = {
        name: {each.number for each in scene.requests[name].surely if each.number is not None} for name in meant
    }
    require(meant == expected, f"The replay means the conversations {meant} instead of {expected}.")
    keys = [each["key"] for each in said.document["keys_revoked"]]
    require(keys == [scene.leaked_prefix], f"The dry run revokes the keys {keys}.")
    require(state_of(scene.service) == before, "A dry run changed something.")
    scene.story.took("dry run", said.seconds)
    scene.story.fact(
        f"A dry run ({said.seconds:.0f} s) names exactly {len(PLANS)} requests, their conversations and a key, and "
        "changes nothing"
    )
    scene.story.show(*(f"{name:<6} {scene.requests[name].id}  {plan}" for name, plan in PLANS.items()))


def dry_run_again(scene: Scene) -> None:
    """Check that another replay of the same backup carries out the same, and what was done after the first."""
    said, _ = _plans(scene, PLANS_AGAIN)
    scene.story.fact(f"A dry run ({said.seconds:.0f} s) names the {len(PLANS_AGAIN)} requests of before both losses")


def _plans(scene: Scene, expected: dict[str, str]) -> tuple[Said, dict[str, str]]:
    """Return what a dry run says, which must be these plans, and the names by the ids of requests."""
    said = scene.service.manage("replay_erasures", "--dry-run", "--json", ends=(0, 3))
    names = {request.id: name for name, request in scene.requests.items()}
    found = {names.get(each["request_id"], each["request_id"]): each["plan"] for each in said.document["requests"]}
    require(found == expected, f"The replay names {found} instead of {expected}.")
    return said, names


def replay(scene: Scene) -> None:
    """Replay, killed three times at a random moment, then to its end."""
    for _ in range(3):
        begun, seconds = _progress(scene), random.uniform(0.0, 0.3)
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
    [(objects, lines, done)] = scene.service.sql(
        "SELECT (SELECT count(*) FROM compliance_ledgerobject WHERE written_at IS NOT NULL), count(*),"
        " count(*) FILTER (WHERE outcome NOT IN ('', 'filed')) FROM compliance_ledgerline"
    )
    return objects, lines, done


# --- Afterwards ------------------------------------------------------------------------------------


def is_open(scene: Scene) -> None:
    """Wait until calls are served and what was filed again is carried out; then check each request."""
    _serves(scene)
    scene.story.took("from the loss until it serves again", scene.story.elapsed())
    scene.story.fact("The service serves again")
    scene.reaches("jon", "olga", "otto", "pia", "completed")
    for name in ("dora", "nora"):
        held = scene.reaches(name, "on_hold")
        require(held["hold_reason"] == "restored", f"The deletion of {name} is held as {held['hold_reason']}.")
        refused = scene.client(CLINIC).post(f"requests/{scene.requests[name].id}/approve", {})
        require(refused.body.get("code") == "officers_only", f"A key's approval is answered {refused.status}.")
    scene.service.manage("approve_request", scene.requests["nora"].id, ends=(2,))  # it has filed it
    scene.reaches("cleo", "cancelled")
    for name in ("gus", "kai", "gita", "ugo"):
        request = scene.requests[name]
        status = scene.client(request.bot).get(f"requests/{request.id}").status
        require(status == 404, f"The lost request of {name} is answered {status}.")
    scene.story.fact(
        "The deletions of Jon, Otto and Pia were filed again under their ids, and are done. Dora's and Nora's are on "
        "hold (restored): no key may approve them, and no command what a command has filed. Cleo's is cancelled. The "
        "requests of Gus, Gita, Ugo and Kai are unknown (404): Gita and Ugo are to ask again, Kai's was accepted in "
        "the last seconds and is lost"
    )
    require(scene.leaked is not None and scene.leaked.get("conversations").status == 401, "A revoked token works.")
    scene.story.fact("The token that had leaked is refused (401)")


def _serves(scene: Scene) -> None:
    client = scene.client(FERRIES)
    wait_until(lambda: client.get("conversations").status == 200, "the service serves again")


def goes_through_again(scene: Scene) -> None:
    """Replay once more, without kills, and wait until the service serves."""
    said = scene.service.manage("replay_erasures", "--json", ends=(0, 3))
    _serves(scene)
    scene.story.fact(f"`replay_erasures` ends ({said.seconds:.0f} s, exit code {said.code}), and the service serves")
    scene.reaches("dora", "jon", "kai", "olga", "otto", "pia", "completed")


def lost_exports_are_logged(scene: Scene) -> None:
    """Check that workers, which print no report, log what was lost."""
    line = f"replay.not_carried_out request={scene.requests['gita'].id} plan=lost_export"
    require(line in scene.service.logs()["workers.log"], "The workers' log does not name the lost export.")
    scene.story.fact("The workers' log names Gita's lost export by its id")


def is_verified(scene: Scene) -> None:
    said = scene.service.manage("verify_erasure", "--all")
    scene.story.fact(f"`verify_erasure --all`: {said.out.strip()}")


def all_is_as_promised(scene: Scene) -> None:
    """Check that nothing is left of who was erased, and that the others have all that is not lost."""
    callers = {slug: state.caller for slug, state in scene.states.items()}
    evidence = gather(scene.service, callers)
    wrong, met = faults_of(scene.model, evidence, scene.waiting())
    wrong += [f"{violation.kind}: {violation.told}" for violation in scene.violations.kept]
    require(not wrong, f"{len(wrong)} are not as they must be: {'; '.join(wrong[:12])}")
    require(met["exports (hosted)"], "The search does not see what files hold.")
    scene.story.fact(
        f"A dump of the database, all {len(evidence.objects.versions)} objects of the bucket and the logs hold no "
        f"word of who was erased, and count their {met['conversations gone']} conversations; "
        f"{met['conversations whole']} others are as they were sent; the ledger has no word at all"
    )


def faults_of(model: Model, evidence: Evidence, waiting: Collection[str] = ()) -> tuple[list[str], Counter[str]]:
    """Return what is not as it must be, and how much of what was looked at.

    `waiting` are the ids of requests that wait for a decision: they have erased nothing, and say whom they are about.
    """
    lines = [(table, line) for table, line in evidence.tables if not any(each in line for each in waiting)]
    # New messages of a day are gathered before its extract is built again.
    extracts = [extract for extract in evidence.extracts if extract.state != "stale"]
    checks = Checks(model, replace(evidence, tables=lines, extracts=extracts), callbacks=())
    comparison = checks.comparison
    comparison.erasures = [request for request in comparison.erasures if request.id not in waiting]

    def is_explained(kind: str, text: str) -> bool:
        if kind == "ended twice":
            return text.endswith("[]")  # what had ended before the loss is there again, and does not end again
        # The file of an export that is lost stays for a day, until `reconcile_storage` removes it.
        return kind == "orphan" or (kind == "not ended" and any(each in text for each in waiting))

    found = [
        *checks.requests_ended(),
        *conversations.stored(comparison),
        *conversations.counts(comparison),
        *leftovers.words(comparison),
        *exports.hosted(comparison),
        *exports.uploads(comparison),
        *exports.extracts(comparison),
    ]
    return [f"{kind}: {text}" for kind, text in found if not is_explained(kind, text)], comparison.met


def numbers_hit_nobody(scene: Scene) -> None:
    """Check that whoever has got the numbers of a chatbot that is lost was not hit by what was erased there."""
    rows = scene.service.sql(
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
    since = scene.sent[scene.backed_up :]
    counts = scene.again(*since)
    scene.upload("tess")
    story.fact(f"Clients send again all {len(since)} documents that they sent since the backup, and a file: {counts}")
    for name in ("eve", "vera", "ugo"):
        chatter = scene.people[name]
        is_whole(scene.states[chatter.slug], chatter.conversations[0])
    require(not scene.violations.kept, f"Messages are not shown as they must be: {scene.violations.kept[:3]}.")
    story.fact("Eve's and Vera's messages come back as `redacted`, Ugo's, which nobody had approved, as it was sent")
    scene.redact("ugo")
    scene.reaches("ugo", "on_hold")
    for name in ("kai", "mia"):
        scene.carry_out(name, "deletion")
    for name in ("ben", "gita", "vera"):
        scene.carry_out(name, "export")
    story.fact(
        "They file again what was lost: Ugo's redaction, which waits for approval again, the deletions of Kai and "
        "Mia, Gita's export. Ben and Vera get exports, too"
    )
    filed["kai"] = scene.requests["kai"]
    again = {f"{name} again": request for name, request in scene.requests.items() if filed[name] is not request}
    scene.requests = filed | again


def early_data_is_known(scene: Scene) -> None:
    """Check that what the backup has changes nothing when it comes again, and what was erased is refused."""
    counts = scene.again(*scene.sent[: scene.backed_up])
    scene.story.fact(f"The platform sends again what it sent before the backup, too: {counts}")


def storage_is_compared(scene: Scene) -> None:
    said = scene.service.manage("reconcile_storage", "--json", ends=(0, 3))
    scene.story.fact(
        f"`reconcile_storage` reports (exit code {said.code}) and removes nothing; what is younger than a day it "
        "leaves out, such as Gita's lost export"
    )
