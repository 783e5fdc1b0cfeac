"""The events before the backup, after it, and before a restore is noticed."""

from datetime import timedelta

from scripts.demo_story import require
from tests.drill.scene import BAKERY, CLINIC, FERRIES, ORCHARD, WORKERS, Scene, told
from tests.oracle.caller import new_key
from tests.oracle.client_state import UCI
from tests.oracle.filing import deletion_of, filed_elsewhere, withdraw
from tests.oracle.model import Request, now

# The period of retention, and an age beyond it.
_DAYS, _OLD = 90, 200.0


@told
def before_the_backup(scene: Scene) -> str:
    """There are people of two chatbots, one with four eyes. Finn has an export, Lena was erased and came back,
    Cleo's deletion waits for its approval, Rosa's for a legal hold, and Olga's is accepted, and not begun when the
    backup is taken."""
    scene.chatbot(FERRIES)
    scene.chatbot(CLINIC)
    scene.service.manage("set_chatbot", CLINIC, "--four-eyes")
    scene.person("ada", "ben", slug=FERRIES, conversations=2)
    names = ("eve", "finn", "gita", "ida", "jon", "kai", "kim", "lena", "olga", "otto", "rosa", "sven")
    scene.person(*names, slug=FERRIES)
    scene.person("hal", slug=FERRIES, days_ago=_OLD)
    scene.person("cleo", "dora", "emil", "gus", "nora", slug=CLINIC)
    # As one company's number 1 and another's.
    scene.person("adas-namesake", slug=CLINIC, like="ada")
    # Ada and Kim used one window.
    scene.send(scene.says("ada"), "kim")
    scene.upload("ada")
    scene.let_leak(FERRIES)
    scene.carry_out("finn", "export")
    scene.carry_out("lena", "deletion")
    scene.says("lena", 0)
    scene.file("cleo", "deletion")
    scene.file_under_hold("rosa")
    scene.reaches("cleo", "rosa", "on_hold")
    days = [str((now() - timedelta(days=ago)).date()) for ago in (3, 1)]
    scene.service.manage("daily_extract", FERRIES, "--from", days[0], "--to", days[1])
    scene.service.wait_for_journal()
    scene.service.stop(WORKERS)
    scene.file("olga", "deletion")
    scene.is_backed_up()
    return f"{len(scene.people)} people and {len(scene.model.conversations)} conversations"


def after_the_backup(scene: Scene) -> None:
    """What the backup does not know."""
    scene.service.start(WORKERS)
    _send_more(scene)
    _erase(scene)
    _decide(scene)
    _hold(scene)
    _redact(scene)
    _apply_retention(scene)
    _create_what_is_lost(scene)
    _file_what_waits(scene)


@told
def _send_more(scene: Scene) -> None:
    """Clients send new conversations, and more of some that the backup has in part."""
    for name in ("ben", "otto", "jon"):
        scene.says(name)
    scene.person("pia", "wim", "tess", "vera", slug=FERRIES)
    scene.person("hedy", slug=FERRIES, days_ago=_OLD)
    scene.upload("tess")
    scene.person("ugo", slug=CLINIC)
    scene.repeat("ida")
    scene.send(scene.people["ida"].conversations[0], "ida")


@told
def _erase(scene: Scene) -> None:
    """Olga, Ada and Wim are erased, and Ada comes back. Two of Ben's conversations are erased by their ids: one of
    before the backup, one of after it."""
    scene.reaches("olga", "completed")
    scene.carry_out("ada", "deletion", erase_exports=True)
    scene.says("ada", 0)
    first, _, third = scene.people["ben"].conversations
    scene.carry_out("ben", "deletion", first, third)
    scene.carry_out("wim", "deletion")


@told
def _decide(scene: Scene) -> None:
    """Cleo's deletion is cancelled, that of Gus rejected; Dora's waits for approval, and Nora's, which staff have
    filed; Emil's got it and is done."""
    manage = scene.service.manage
    withdraw(scene.states[CLINIC], scene.requests["cleo"])
    scene.reaches("cleo", "cancelled")
    for name in ("gus", "dora", "emil"):
        scene.file(name, "deletion")
    state, value = scene.states[CLINIC], scene.people["nora"].person.value
    by_staff = manage("request_deletion", CLINIC, UCI, value, "--json", ends=(0, 4)).document
    scene.requests["nora"] = filed_elsewhere(state, deletion_of(state, value), by_staff["request_id"])
    scene.reaches("gus", "dora", "emil", "nora", "on_hold")
    manage("reject_request", scene.requests["gus"].id, "--reason", "other")
    manage("approve_request", scene.requests["emil"].id)
    scene.reaches("gus", "rejected")
    scene.reaches("emil", "completed")


@told
def _hold(scene: Scene) -> None:
    """Sven's deletion waits for a legal hold, too."""
    scene.file_under_hold("sven")
    scene.reaches("sven", "on_hold")


@told
def _redact(scene: Scene) -> None:
    """A message of Eve is redacted, and one of Vera, who came after the backup; one of Ugo's waits for approval.
    Gita gets an export, and a token that leaked is revoked."""
    scene.redact("eve", "vera", "ugo")
    scene.reaches("eve", "vera", "completed")
    scene.repeat("eve")
    scene.reaches("ugo", "on_hold")
    scene.carry_out("gita", "export")
    scene.service.manage("revoke_api_key", scene.leaked_prefix)


@told
def _apply_retention(scene: Scene) -> str:
    """A retention run erases what is too old, without the 24 hours that a first run waits."""
    words = (FERRIES, str(_DAYS))
    counted = scene.service.manage("set_retention", *words, ends=(3,))
    number = counted.out.strip().rpartition(" ")[2]
    scene.service.manage("set_retention", *words, "--confirm", number)
    [(request_id,)] = scene.service.sql(
        "UPDATE compliance_compliancerequest SET not_before = now() WHERE kind = 'retention' RETURNING id"
    )
    old = {conversation for name in ("hal", "hedy") for conversation in scene.people[name].conversations}
    run = Request(FERRIES, "retention", new_key(), surely=old)
    scene.requests["hal"] = filed_elsewhere(scene.states[FERRIES], run, str(request_id))
    scene.reaches("hal", "completed")
    return f"{number} conversations"


@told
def _create_what_is_lost(scene: Scene) -> None:
    """A new chatbot has a person, Mia, who is erased."""
    scene.chatbot(BAKERY, "--variable", "custom:table")
    # With the same value as Ida of the ferries, and as a later chatter.
    scene.person("mia", slug=BAKERY, like="ida")
    scene.carry_out("mia", "deletion")
    which = "chatbot_id = (SELECT id FROM chatbots_chatbot WHERE slug = %s)"
    wheres = {"chatbots_chatbot": "slug = %s", "chatbots_variable": which, "conversations_conversation": which}
    scene.lost_numbers = {
        table: scene.service.sql(f"SELECT min(id) FROM {table} WHERE {where}", [BAKERY])[0][0]
        for table, where in wheres.items()
    }


@told
def _file_what_waits(scene: Scene) -> None:
    """Jon's deletion is accepted, and by the ids of their conversations those of Otto and Pia: they can be cancelled
    for half an hour before they are carried out. Kai's is accepted, and no worker has time to write it to the
    ledger."""
    scene.service.manage("set_chatbot", FERRIES, "--grace-minutes", "30")
    scene.file("jon", "deletion")
    for name in ("otto", "pia"):
        scene.file(name, "deletion", *scene.people[name].conversations)
    scene.service.wait_for_journal()
    scene.service.stop(WORKERS)
    scene.file("kai", "deletion")


@told
def work_on_unaware(scene: Scene) -> None:
    """Before the restore is noticed, a chatbot is created, which gets the number of a lost one. A conversation of a
    person with the same value as Mia's is stored in it."""
    require(scene.client(FERRIES).get("conversations").status == 200, "The web server does not serve yet.")
    # A dump sets its sequences back; in a physical copy they are past the numbers of what was lost.
    for table, number in scene.lost_numbers.items():
        scene.service.sql(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), %s, false)", [number])
    scene.chatbot(ORCHARD)
    scene.person("nils", slug=ORCHARD, like="mia")
