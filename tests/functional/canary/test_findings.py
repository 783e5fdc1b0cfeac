"""The canary: clean where a deletion leaves nothing, and a finding wherever something is left."""

import fnmatch
import gzip
import json
from pathlib import Path

from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from common.db import execute
from common.storage import ObjectStorage
from compliance.canary.words import Planted
from compliance.models import Canary, CanaryTurn, ComplianceRequest
from compliance.work import health
from conversations.models import Conversation, Message
from tests.commands import run
from tests.factories import conversation_of
from tests.functional.canary.turn_driver import LONG, TurnDriver, last
from tests.functional.support import dump, everything_in
from tests.patches import before


def test_it_is_clean_where_a_deletion_leaves_nothing_and_reads_no_other_chatbot(canary, neighbour, monkeypatch):
    conversation_of(neighbour, "42", messages=3)
    others = list(Message.objects.filter(chatbot=neighbour).order_by("pk").values())
    driver = TurnDriver()
    driver.put("neighbour/chatter_data_exports/42/theirs.csv", b"theirs")
    driver.put(f"uploads/{neighbour.pk}/1", b"theirs")
    read: list[str] = []
    before(monkeypatch, ObjectStorage, "read_version", lambda _, key, _version_id: read.append(key))

    turn = driver.end()

    assert (turn.state, turn.trouble, driver.findings()) == ("clean", "", [])
    assert last()[0] == 0
    assert read
    own = (f"{canary.chatbot.slug}/", f"uploads/{canary.chatbot_id}/", "erasure_ledger/")
    assert [key for key in read if not key.startswith(own)] == []
    # It was all there, and no word of it is.
    text = "\n".join([*driver.seen, *(content.decode() for content in driver.seen.values())])
    assert {"chatter_data_exports", "daily_conversations_extracts"} <= {key.split("/")[1] for key in driver.seen}
    for word in (driver.words.value, driver.words.said, driver.words.long_ago):
        assert word in text
    left = dump() + everything_in(driver.storage) + "".join(version.key for version in driver.storage.versions())
    assert driver.words.stem not in left
    assert list(Message.objects.filter(chatbot=neighbour).order_by("pk").values()) == others
    assert Conversation.objects.filter(chatbot=canary.chatbot, deleted_at__isnull=False).count() == 2


def put_message_back(driver: TurnDriver) -> None:
    execute(
        "INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)"
        " VALUES (%s, %s, 'again', 'user', 'text', %s, now())",
        [driver.turn.chatbot_id, driver.turn.numbers[0], f"I was {driver.words.said}."],
    )


def keep_in_session(driver: TurnDriver) -> None:
    session = SessionStore()
    # Much text, so that Django packs it.
    session["draft"] = [driver.words.value, "and more " * 500]
    session.save()


def leave_in_queue(driver: TurnDriver) -> None:
    payload = f"drain {driver.words.value.encode().hex()}"
    execute("INSERT INTO django_q_ormq (key, payload, lock) VALUES ('other', %s, now())", [payload])


def log_for_admin(driver: TurnDriver) -> None:
    User.objects.create_user("sam.staff", is_staff=True)
    execute(
        "INSERT INTO django_admin_log (action_time, user_id, object_repr, action_flag, change_message)"
        " SELECT now(), id, %s, 2, '' FROM auth_user LIMIT 1",
        [driver.words.value],
    )


def put_export_back(driver: TurnDriver) -> None:
    key = driver.key_of("chatter_data_exports")
    driver.put(key, driver.seen[key])


def leave_old_version(driver: TurnDriver) -> None:
    key = driver.key_of("daily_conversations_extracts")
    clean = driver.storage.read(key)
    driver.put(key, driver.seen[key])
    driver.put(key, clean)


def copy_elsewhere(driver: TurnDriver) -> None:
    content = driver.seen[driver.key_of("chatter_data_exports")]
    driver.put(f"{driver.turn.chatbot.slug}/backup/yesterday.csv.gz", gzip.compress(content))


def hide_behind_marker(driver: TurnDriver) -> None:
    key = f"uploads/{driver.turn.chatbot_id}/again"
    driver.put(key, driver.words.file)
    driver.storage.client.delete_object(Bucket=driver.storage.bucket_name, Key=key)


def name_in_key(driver: TurnDriver) -> None:
    driver.put(f"{driver.turn.chatbot.slug}/chatter_data_exports/{driver.words.value}/empty.csv", b"")


def show_again(driver: TurnDriver) -> None:
    Conversation.objects.filter(pk=driver.turn.numbers[0]).update(
        deleted_at=None, deletion_request_id=None, external_id="again", message_count=0, user_name=driver.words.name
    )


def log_text(driver: TurnDriver) -> None:
    with Path(driver.log).open("a") as log:
        log.write(f"Somebody said {driver.words.said}.\n")


LEFT = {
    show_again: "api not_erased getConversation",
    log_text: "logs text_left *worker.log",
    put_message_back: "rows text_left conversations_message.text",
    keep_in_session: "rows text_left django_session.session_data",
    leave_in_queue: "rows text_left django_q_ormq.payload",
    log_for_admin: "rows text_left django_admin_log.object_repr",
    leave_old_version: "bucket text_left daily_conversations_extracts/* (content, an old version)",
    put_export_back: "bucket text_left chatter_data_exports/* (content)",
    copy_elsewhere: "bucket text_left other/* (content)",
    hide_behind_marker: "bucket text_left uploads/* (content, an old version)",
    name_in_key: "bucket text_left chatter_data_exports/* (key)",
}


def test_it_finds_what_is_left_in_each_place(canary: Canary) -> None:
    driver = TurnDriver()

    turn = driver.end(after_erasing=lambda driver: [leave(driver) for leave in LEFT])

    assert (turn.state, turn.trouble) == ("found", "")
    found = driver.findings()
    seen_again = ["api text_left listConversations", "api still_served listMessages"]
    assert [where for where in [*LEFT.values(), *seen_again] if not fnmatch.filter(found, where)] == [], found
    assert not [one for one in found if driver.words.value in one]
    code, document = last()
    assert (code, document["state"]) == (3, "found")
    assert driver.words.stem not in json.dumps(document)
    _, said, _ = run("canary", "--last")
    assert "rows: A planted word is there: conversations_message.text\n" in said
    assert said.endswith("found: Something was left.\n")
    [problem] = [problem for problem in health.check().problems if problem.code == "canary_found"]
    assert "rows (5)" in problem.detail


@LONG
def test_it_finds_what_came_back_of_a_chatter_that_was_erased_lately(canary: Canary) -> None:
    day, now = timezone.now().date(), timezone.now()
    over = {"state": "clean", "planted_at": now, "erased_at": now, "ended_at": now}
    former = Planted(CanaryTurn.objects.create(chatbot=canary.chatbot, day=day, **over).pk)

    def bring_back(driver: TurnDriver) -> None:
        ComplianceRequest.objects.filter(pk=str(driver.turn.deletion_id)).update(reference=former.value)
        driver.put(f"uploads/{driver.turn.chatbot_id}/again", former.file)

    driver = TurnDriver()
    turn = driver.end(after_erasing=bring_back)

    assert (turn.state, turn.trouble) == ("found", "")
    assert {one.partition("/")[0] for one in driver.findings()} == {
        "api text_left getRequest (deletion)",
        "api text_left listRequests",
        "api text_left lookUpRequests",
        "bucket text_left uploads",
        "rows text_left compliance_compliancerequest.reference",
    }
