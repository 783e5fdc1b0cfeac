"""What must hold in a database that was restored: while it is closed, by its replay, and afterwards."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from scripts.demo_story import require
from tests.drill.scene import BAKERY, CLINIC, FERRIES, ORCHARD, WORKERS, Scene, told
from tests.faults.site import Site
from tests.operated import Said, wait_until
from tests.oracle.caller import ask
from tests.oracle.checks import Checks
from tests.oracle.client_state import UCI
from tests.oracle.evidence import Evidence, gather
from tests.oracle.following import is_whole
from tests.oracle.model import Model

# The plan of a replay for each person's request. Three are missing: Gus's is neither in the database nor to be
# carried out, Kai's is not in the ledger, and no data of Wim is in the backup.
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
    "sven": "file",
    "cleo": "withdraw",
    "gita": "lost_export",
    "mia": "unknown_chatbot",
}
# The other plans of a second replay of the same backup: the first four were carried out after the first, and requests
# that were filed again are lost again.
PLANS_AGAIN = {
    **PLANS,
    **dict.fromkeys(("jon", "otto", "dora", "kai", "rosa", "sven"), "erase"),
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


def state_of(service: Site) -> list[tuple[Any, ...]]:
    """Return the data that would change if the service worked on a request."""
    return service.sql(_REQUESTS) + service.sql(_COUNTS)


@told
def is_closed(scene: Scene) -> None:
    """Every call is answered 503, every page of the console says what to do, and health and metrics report it."""
    service, client, code = scene.service, scene.client(FERRIES), "restored_database"
    filing = client.post("data-deletion", {"unique_chatter_identifier_key": UCI})
    answers = (filing, client.post("conversations", []), client.get("conversations"))
    said = [(answer.status, (answer.body or {}).get("code")) for answer in answers]
    require(said == [(503, code)] * 3, f"Calls are answered {said} by a restored database.")
    pages = [ask(f"{service.address}/admin/{path}") for path in ("login/", "", "conversations/")]
    require([page.status for page in pages] == [503] * 3, f"The console answers {[page.status for page in pages]}.")
    require(b"replay_erasures" in pages[0].raw, "The console's page does not say what to do.")
    require(ask(f"{service.address}/healthz").status == 200, "/healthz does not answer 200.")
    require(code in service.health(), f"manage.py health does not report {code}.")
    header = {"Authorization": f"Bearer {service.keys.environment['METRICS_TOKEN']}"}
    metrics = ask(f"{service.address}/metrics", headers=header).raw.decode().splitlines()
    require(f'dca_health_problem{{code="{code}"}} 1.0' in metrics, f"The metric of the problem {code} is not 1.")


def is_served(scene: Scene) -> None:
    """Check that a service is open."""
    status = scene.client(FERRIES).get("conversations").status
    require(status == 200, f"The {scene.service.folder.name} answers {status}.")
    wrong = scene.service.health() & {"restored_database", "catching_up", "ledger_missing"}
    require(not wrong, f"The {scene.service.folder.name} reports {wrong}.")


def ledger_folders(service: Site) -> set[str]:
    keys = [stored.key.split("/") for stored in service.objects().versions]
    return {key[1] for key in keys if key[0] == "erasure_ledger"}


@told
def refuses_commands(scene: Scene) -> None:
    """Commands that file, process or erase refuse, and name `replay_erasures`."""
    export = ("request_export", FERRIES, UCI, scene.people["ida"].person.value)
    for words in (("process_requests",), export, ("apply_retention", "--all")):
        said = scene.service.manage(*words, ends=(7,))
        require("replay_erasures" in said.out + said.err, f"{words[0]} does not say what to do.")


@told
def nothing_moves(scene: Scene, before: list[tuple[Any, ...]], *, seconds: float) -> str:
    """Workers have run beside Olga's waiting deletion: no request moved, no row went."""
    require(state_of(scene.service) == before, "Something moved in a restored database before its replay.")
    return f"{seconds:.0f} s"


@told
def dry_run(scene: Scene) -> str:
    """A dry run names exactly the requests, their conversations and a key, and changes nothing."""
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
    return f"{len(PLANS)}, {said.seconds:.1f} s"


@told
def dry_run_again(scene: Scene) -> str:
    """Of another replay of the same backup a dry run names the same, and what was done after the first."""
    said, _ = _plans(scene, PLANS_AGAIN)
    return f"{len(PLANS_AGAIN)}, {said.seconds:.1f} s"


def _plans(scene: Scene, expected: dict[str, str]) -> tuple[Said, dict[str, str]]:
    """Return the output of a dry run, which must have these plans, and the names by the ids of requests."""
    said = scene.service.manage("replay_erasures", "--dry-run", "--json", ends=(0, 3))
    names = {request.id: name for name, request in scene.requests.items()}
    found = {names.get(each["request_id"], each["request_id"]): each["plan"] for each in said.document["requests"]}
    require(found == expected, f"The replay names {found} instead of {expected}.")
    return said, names


@told
def replay(scene: Scene, kills: int) -> str:
    """`replay_erasures` is killed at random moments, goes on, and ends."""
    killed = []
    for _ in range(kills):
        begun, seconds = _progress(scene), random.uniform(0.0, 0.3)
        went_on = lambda begun=begun: _progress(scene) != begun  # noqa: E731
        if not _kill_during(scene.service, went_on, seconds):
            break
        killed.append(_progress(scene))
    said = scene.service.manage("replay_erasures", "--json", ends=(0, 3))
    progress = "; ".join(f"killed at {objects} objects, {done} of {lines} done" for objects, lines, done in killed)
    return f"{progress}; the last run took {said.seconds:.1f} s, exit code {said.code}"


def _kill_during(service: Site, went_on: Callable[[], bool], seconds: float) -> bool:
    """Replay, and kill it `seconds` after it has continued. Return whether it was still running."""
    with service.commanding("replay_erasures") as process:
        while process.poll() is None and not went_on():
            time.sleep(0.02)
        try:
            process.communicate("", timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
        return False


def _progress(scene: Scene) -> tuple[int, int, int]:
    """Return the numbers of objects that a replay has read, of their requests, and of the finished ones."""
    [(objects, lines, done)] = scene.service.sql(
        "SELECT (SELECT count(*) FROM compliance_ledgerobject WHERE written_at IS NOT NULL), count(*),"
        " count(*) FILTER (WHERE outcome NOT IN ('', 'filed')) FROM compliance_ledgerline"
    )
    return objects, lines, done


@told
def replay_again(scene: Scene) -> None:
    """Another replay finds nothing to do."""
    before = state_of(scene.service)
    said = scene.service.manage("replay_erasures", "--json", ends=(0,))
    require(not said.document["requests"], "A second replay names requests.")
    require(state_of(scene.service) == before, "A second replay changed something.")


# --- Afterwards ------------------------------------------------------------------------------------


@told
def serves(scene: Scene) -> str:
    """The service serves again."""
    client = scene.client(FERRIES)
    wait_until(lambda: client.get("conversations").status == 200, "the service serves again")
    return f"{scene.story.elapsed():.1f} s after the loss"


@told
def requests_are_as_promised(scene: Scene) -> None:
    """The deletions of Jon, Otto and Pia were filed again under their ids, and are done. Dora's and Nora's are on
    hold (restored): no key may approve them, and no command what a command has filed. Cleo's is cancelled. Those of
    Gus, Gita, Ugo and Kai are unknown (404). Those of Rosa and Sven wait for their legal holds, and are done after
    the release. The token that had leaked is refused."""
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
    for name in ("rosa", "sven"):
        held = scene.reaches(name, "on_hold")
        require(held["hold_reason"] == "legal_hold", f"The deletion of {name} is held as {held['hold_reason']}.")
    scene.release("rosa", "sven")
    scene.reaches("rosa", "sven", "completed")
    require(scene.leaked is not None and scene.leaked.get("conversations").status == 401, "A revoked token works.")


@told
def lost_exports_are_logged(scene: Scene) -> None:
    """The log of workers, which print no report, names Gita's lost export by its id."""
    line = f"replay.not_carried_out request={scene.requests['gita'].id} plan=lost_export"
    require(line in scene.service.log(WORKERS), "The workers' log does not name the lost export.")


@told
def all_is_as_promised(scene: Scene) -> str:
    """`verify_erasure --all` is clean. A dump of the database, all objects of the bucket and the logs hold no word of
    who was erased, and count their conversations; others are as they were sent; the ledger has no word at all."""
    scene.service.manage("verify_erasure", "--all")
    callers = {slug: state.caller for slug, state in scene.states.items()}
    wrong, met = faults_of(scene.model, gather(scene.service, callers), scene.waiting())
    wrong += [f"{violation.kind}: {violation.told}" for violation in scene.violations.kept]
    require(not wrong, f"{len(wrong)} are not as they must be: {'; '.join(wrong[:12])}")
    require(met["exports (hosted)"], "The search does not see what files hold.")
    return f"{met['conversations gone']} conversations gone, {met['conversations whole']} whole"


def faults_of(model: Model, evidence: Evidence, waiting: Collection[str] = ()) -> tuple[list[str], Counter[str]]:
    """Return the violations, and the counts of the checked items.

    `waiting` are the ids of requests that wait for a decision: they have erased nothing, and keep their selector.
    """
    lines = [(table, line) for table, line in evidence.tables if not any(each in line for each in waiting)]
    # New messages of a day are collected before its extract is rebuilt.
    extracts = [extract for extract in evidence.extracts if extract.state != "stale"]
    checks = Checks(model, replace(evidence, tables=lines, extracts=extracts), callbacks=())
    comparison = checks.comparison
    comparison.erasures = [request for request in comparison.erasures if request.id not in waiting]

    def is_explained(kind: str, text: str) -> bool:
        if kind == "ended twice":
            return text.endswith("[]")  # what had ended before the loss is there again, and does not end again
        # The file of an export that is lost stays for a day, until `reconcile_storage` removes it.
        return kind == "orphan" or (kind == "not ended" and any(each in text for each in waiting))

    found = checks.of_contents()
    return [f"{kind}: {text}" for kind, text in found if not is_explained(kind, text)], comparison.met


@told
def numbers_hit_nobody(scene: Scene) -> None:
    """The chatbot that has got the numbers of one that is lost still has its person, though the same value was erased
    there."""
    rows = scene.service.sql(
        "SELECT c.slug, c.id, s.id FROM chatbots_chatbot c JOIN conversations_conversation s ON s.chatbot_id = c.id"
        " WHERE c.slug = ANY(%s) AND s.deletion_request_id IS NULL",
        [[BAKERY, ORCHARD]],
    )
    lost = scene.lost_numbers
    expected = (ORCHARD, lost["chatbots_chatbot"], lost["conversations_conversation"])
    require(rows == [expected], f"Instead of {expected} there is {rows}.")


@told
def clients_do_their_part(scene: Scene) -> str:
    """As docs/operators/after-a-restore.md says, a chatbot is created again, and clients send again what they sent
    since the backup, and a file. Eve's and Vera's messages come back as `redacted`, Ugo's, which was not approved,
    as it was sent. They file again what was lost: Ugo's redaction, the deletions of Kai and Mia, exports."""
    filed = dict(scene.requests)
    scene.chatbot(BAKERY, "--variable", "custom:table")
    counts = scene.again(*scene.sent[scene.backed_up :])
    scene.upload("tess")
    for name in ("eve", "vera", "ugo"):
        chatter = scene.people[name]
        is_whole(scene.states[chatter.slug], chatter.conversations[0])
    require(not scene.violations.kept, f"Messages are not shown as they must be: {scene.violations.kept[:3]}.")
    scene.redact("ugo")
    scene.reaches("ugo", "on_hold")
    for name in ("kai", "mia"):
        scene.carry_out(name, "deletion")
    for name in ("ben", "gita", "vera"):
        scene.carry_out(name, "export")
    filed["kai"] = scene.requests["kai"]
    again = {f"{name} again": request for name, request in scene.requests.items() if filed[name] is not request}
    scene.requests = filed | again
    return counts


@told
def early_data_is_known(scene: Scene) -> str:
    """What was sent before the backup changes nothing when it comes again, and is refused where it was erased."""
    return scene.again(*scene.sent[: scene.backed_up])
