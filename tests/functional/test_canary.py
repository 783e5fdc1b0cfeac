"""The canary: clean where a deletion leaves nothing, and a finding wherever something is left."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import ApiKey, Chatbot
from common.storage import ObjectStorage
from compliance.canary import steps, turns
from compliance.canary.turns import go_on
from compliance.models import Canary, CanaryFinding, CanaryTurn, ComplianceRequest
from compliance.work import health
from conversations.models import Conversation, Message
from tests.clients import empty
from tests.factories import conversation_of
from tests.functional.canary_flights import Flight, versioned_bucket_and_server
from tests.functional.support import dump, everything_in
from tests.functional.web import WebServer
from tests.under_roles import role

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
LONG = pytest.mark.long(reason="a turn takes seconds, and others prove the same of another place")


@pytest.fixture(scope="module")
def place(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, WebServer, Path]]:
    log = tmp_path_factory.mktemp("canary") / "web.log"
    with versioned_bucket_and_server(log) as (name, server):
        yield name, server, log


@pytest.fixture
def canary(place: tuple[str, WebServer, Path], settings: Settings, tmp_path: Path) -> Iterator[Canary]:
    name, server, log = place
    settings.S3_BUCKET = name
    settings.CANARY_URL = f"http://127.0.0.1:{server.port}"
    settings.CANARY_EVERY = HOUR
    (tmp_path / "worker.log").write_text("before\n")
    settings.CANARY_LOG_FILES = [str(log), str(tmp_path / "worker.log*")]
    empty(hosted_storage())
    call_command("create_canary", stdout=StringIO())
    yield Canary.objects.select_related("chatbot").get()
    empty(hosted_storage())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be searched is not tried again."""
    once = dict.fromkeys(["control", "look_api", "look_bucket", "look_rows", "look_logs"], timedelta())
    monkeypatch.setattr(turns, "_PATIENCE", turns._PATIENCE | once)


def last() -> tuple[int, dict[str, Any]]:
    """Return the exit code and the document of `canary --last`."""
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("canary", "--last", "--json", stdout=out)
    return int(str(ended.value.code)), json.loads(out.getvalue())


def execute(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def test_it_is_clean_where_a_deletion_leaves_nothing(canary: Canary, neighbour: Chatbot) -> None:
    conversation_of(neighbour, "42", messages=3)
    others = list(Message.objects.filter(chatbot=neighbour).order_by("pk").values())
    flight = Flight()

    turn = flight.end()

    assert (turn.state, turn.trouble, flight.findings()) == ("clean", "", [])
    assert last()[0] == 0
    # It was all there, and no word of it is.
    text = "\n".join([*flight.seen, *(content.decode() for content in flight.seen.values())])
    assert {"chatter_data_exports", "daily_conversations_extracts"} <= {key.split("/")[1] for key in flight.seen}
    words = set(flight.words.words.values())
    assert {flight.words.value, flight.words.words["said"], flight.words.words["long ago"]} <= {
        word for word in words if word in text
    }
    left = dump() + everything_in(flight.storage) + "".join(version.key for version in flight.storage.versions())
    assert not [word for word in words if word in left]
    assert list(Message.objects.filter(chatbot=neighbour).order_by("pk").values()) == others
    assert Conversation.objects.filter(chatbot=canary.chatbot, deleted_at__isnull=False).count() == 2


def put_message_back(flight: Flight) -> None:
    execute(
        "INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)"
        " VALUES (%s, %s, 'again', 'user', 'text', %s, now())",
        flight.turn.chatbot_id,
        flight.turn.numbers[0],
        f"I was {flight.words.words['said']}.",
    )


def name_in_reference(flight: Flight) -> None:
    ComplianceRequest.objects.filter(pk=str(flight.turn.deletion_id)).update(reference=flight.words.value)


def write_to_change_log(flight: Flight) -> None:
    execute(
        "INSERT INTO chatbots_changelogentry (chatbot_id, event, actor, data) VALUES (%s, 'a.b', 'command', %s)",
        flight.turn.chatbot_id,
        json.dumps({"who": flight.words.value}),
    )


def keep_in_session(flight: Flight) -> None:
    session = SessionStore()
    # Much text, so that Django packs it.
    session["draft"] = [flight.words.value, "and more " * 500]
    session.save()


def leave_in_queue(flight: Flight) -> None:
    payload = f"drain {flight.words.value.encode().hex()}"
    execute("INSERT INTO django_q_ormq (key, payload, lock) VALUES ('other', %s, now())", payload)


def log_for_admin(flight: Flight) -> None:
    User.objects.create_user("sam.staff", is_staff=True)
    execute(
        "INSERT INTO django_admin_log (action_time, user_id, object_repr, action_flag, change_message)"
        " SELECT now(), id, %s, 2, '' FROM auth_user LIMIT 1",
        flight.words.value,
    )


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        (put_message_back, "conversations_message.text"),
        pytest.param(name_in_reference, "compliance_compliancerequest.reference", marks=LONG),
        (write_to_change_log, "chatbots_changelogentry.data"),
        pytest.param(keep_in_session, "django_session.session_data", marks=LONG),
        pytest.param(leave_in_queue, "django_q_ormq.payload", marks=LONG),
        pytest.param(log_for_admin, "django_admin_log.object_repr", marks=LONG),
    ],
)
def test_it_finds_a_row(canary: Canary, fault: Callable[[Flight], None], where: str) -> None:
    flight = Flight()

    turn = flight.end(after_erasing=fault)

    assert (turn.state, turn.trouble) == ("found", "")
    assert f"rows text_left {where}" in flight.findings()
    code, document = last()
    assert (code, document["state"]) == (3, "found")
    assert not [word for word in flight.words.words.values() if word in json.dumps(document)]
    [found] = [problem for problem in health.check().problems if problem.code == "canary_found"]
    assert "rows (1)" in found.detail


@LONG
@pytest.mark.one_postgresql(reason="a trigger of the test's own")
def test_it_finds_what_a_trigger_of_an_operators_keeps(canary: Canary) -> None:
    execute(
        """
        CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO chatbots_changelogentry (chatbot_id, event, actor, data)
            VALUES (OLD.chatbot_id, 'message.deleted', 'command', jsonb_build_object('text', OLD.text));
            RETURN OLD;
        END $$;
        CREATE TRIGGER kept AFTER DELETE ON conversations_message FOR EACH ROW EXECUTE FUNCTION kept();
        """
    )
    try:
        flight = Flight()
        turn = flight.end()
    finally:
        execute("DROP TRIGGER kept ON conversations_message; DROP FUNCTION kept();")

    assert (turn.state, flight.findings()) == ("found", ["rows text_left chatbots_changelogentry.data"])


@LONG
def test_it_finds_a_conversation_that_is_shown_again(canary: Canary) -> None:
    def reopen(flight: Flight) -> None:
        Conversation.objects.filter(pk=flight.turn.numbers[0]).update(
            deleted_at=None,
            deletion_request_id=None,
            external_id="again",
            message_count=0,
            user_name=flight.words.words["name"],
        )

    flight = Flight()
    turn = flight.end(after_erasing=reopen)

    assert turn.state == "found"
    found = set(flight.findings())
    assert {
        "api text_left getConversation",
        "api not_erased getConversation",
        "api not_erased listConversations",
        "api still_served listMessages",
        "rows text_left conversations_conversation.user_name",
    } <= found


def put_export_back(flight: Flight) -> None:
    key = flight.key_of("chatter_data_exports")
    flight.put(key, flight.seen[key])


def put_extract_back(flight: Flight) -> None:
    key = flight.key_of("daily_conversations_extracts")
    flight.put(key, flight.seen[key])


def leave_old_version(flight: Flight) -> None:
    key = flight.key_of("daily_conversations_extracts")
    clean = flight.storage.read(key)
    flight.put(key, flight.seen[key])
    flight.put(key, clean)


def copy_elsewhere(flight: Flight) -> None:
    content = flight.seen[flight.key_of("chatter_data_exports")]
    flight.put(f"{flight.turn.chatbot.slug}/backup/yesterday.csv.gz", gzip.compress(content))


def hide_behind_marker(flight: Flight) -> None:
    key = f"uploads/{flight.turn.chatbot_id}/again"
    flight.put(key, flight.words.file)
    flight.storage.client.delete_object(Bucket=flight.storage.bucket_name, Key=key)


def name_in_key(flight: Flight) -> None:
    flight.put(f"{flight.turn.chatbot.slug}/chatter_data_exports/{flight.words.value}/empty.csv", b"")


@pytest.mark.parametrize(
    ("fault", "folder", "how"),
    [
        (put_export_back, "chatter_data_exports", "(content)"),
        (put_extract_back, "daily_conversations_extracts", "(content)"),
        (leave_old_version, "daily_conversations_extracts", "(content, an old version)"),
        pytest.param(copy_elsewhere, "other", "(content)", marks=LONG),
        pytest.param(hide_behind_marker, "uploads", "(content, an old version)", marks=LONG),
        pytest.param(name_in_key, "chatter_data_exports", "(key)", marks=LONG),
    ],
)
def test_it_finds_an_object(canary: Canary, fault: Callable[[Flight], None], folder: str, how: str) -> None:
    flight = Flight()

    turn = flight.end(after_erasing=fault)

    assert (turn.state, turn.trouble) == ("found", "")
    found = [one for one in flight.findings() if one.startswith(f"bucket text_left {folder}/") and one.endswith(how)]
    assert found, flight.findings()
    assert not [one for one in flight.findings() if flight.words.value in one]


def test_it_finds_a_line_in_a_log_also_of_a_rotated_one(canary: Canary, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"

    def write(flight: Flight) -> None:
        with log.open("a") as file:
            file.write(f"ERROR cannot erase {flight.words.value.upper()}\n")
        log.rename(tmp_path / "worker.log.1")
        log.write_text("a new one\n")

    flight = Flight()
    turn = flight.end(after_erasing=write)

    assert (turn.state, flight.findings()) == ("found", [f"logs text_left {tmp_path / 'worker.log.1'}"])


@LONG
def test_a_log_that_is_not_there_is_unclear_and_not_clean(
    canary: Canary, settings: Settings, tmp_path: Path, impatient: None
) -> None:
    settings.CANARY_LOG_FILES = [str(tmp_path / "worker.log"), str(tmp_path / "typo*.log")]
    turn = Flight().end()

    assert (turn.state, turn.trouble, turn.trouble_at) == ("unclear", "log_missing", str(tmp_path / "typo*.log"))
    assert last()[0] == 4


@LONG
def test_what_is_found_counts_where_the_search_cannot_go_on(
    canary: Canary, settings: Settings, tmp_path: Path, impatient: None
) -> None:
    log = tmp_path / "worker.log"
    settings.CANARY_LOG_FILES = [str(tmp_path / "typo*.log"), str(log)]
    flight = Flight()
    turn = flight.end(after_erasing=lambda flight: log.write_text(f"cannot erase {flight.words.value}\n"))

    assert (turn.state, turn.trouble, flight.findings()) == ("found", "log_missing", [f"logs text_left {log}"])


def test_what_could_not_be_planted_is_not_missed(
    canary: Canary, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, settings.CANARY_URL = settings.CANARY_URL, "http://127.0.0.1:9"
    monkeypatch.setitem(turns._PATIENCE, CanaryTurn.Step.PLANT, timedelta())
    flight = Flight()
    flight.go_on()
    settings.CANARY_URL = address
    turn = flight.end()

    assert (turn.state, turn.trouble, flight.findings()) == ("unclear", "api_unavailable", [])


def test_an_api_that_does_not_answer_is_waited_for_and_then_unclear(
    canary: Canary, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CANARY_URL = "http://127.0.0.1:9"
    flight = Flight()
    flight.go_on()
    flight.go_on()
    assert not flight.is_over
    assert not Conversation.objects.exists()

    monkeypatch.setattr(turns, "_PATIENCE", dict.fromkeys(turns._PATIENCE, timedelta()))
    turn = flight.end()

    assert (turn.state, turn.trouble, turn.trouble_at) == ("unclear", "api_unavailable", "storeConversations")


def test_a_silent_storage_is_unclear_and_not_clean(canary: Canary, impatient: None) -> None:
    def silent() -> AbstractContextManager[object]:
        return override_settings(S3_ENDPOINT_URL="http://127.0.0.1:9")

    turn = Flight().end(at={"erase": silent})

    assert (turn.state, turn.trouble) == ("unclear", "storage_unavailable")
    assert not CanaryFinding.objects.exists()
    assert turn.erased_at is not None


def test_a_search_in_the_wrong_bucket_is_blind_and_the_chatter_erased_all_the_same(
    canary: Canary, storage: ObjectStorage, impatient: None
) -> None:
    def wrong() -> AbstractContextManager[object]:
        return override_settings(S3_BUCKET=storage.bucket_name)

    turn = Flight().end(at={"export": wrong})

    assert (turn.state, turn.trouble) == ("unclear", "blind")
    assert turn.trouble_at.startswith("bucket: ")
    assert turn.erased_at is not None


@LONG
@pytest.mark.one_postgresql(reason="rights of a role")
def test_a_missing_right_is_unclear_and_not_clean(canary: Canary, impatient: None) -> None:
    execute("REVOKE SELECT (session_data) ON django_session FROM tests_worker")
    try:
        turn = Flight().end()
    finally:
        execute("GRANT SELECT (session_data) ON django_session TO tests_worker")

    assert (turn.state, turn.trouble, turn.trouble_at) == (
        "unclear",
        "rights_missing",
        "django_session.session_data",
    )


@LONG
def test_a_held_deletion_is_unclear_and_the_next_turn_erases_it(canary: Canary, monkeypatch: Any) -> None:
    Chatbot.objects.filter(pk=canary.chatbot_id).update(four_eyes=True)
    flight = Flight()
    flight.reach("erase")
    with monkeypatch.context() as patch:
        patch.setattr(turns, "_PATIENCE", turns._PATIENCE | {"erase": timedelta()})
        first = flight.end()
    assert (first.state, first.trouble) == ("unclear", "not_carried_out")
    assert first.erased_at is None
    assert [problem.code for problem in health.check().problems if "canary" in problem.code] == []

    Chatbot.objects.filter(pk=canary.chatbot_id).update(four_eyes=False)
    call_command("approve_request", str(first.deletion_id), stdout=StringIO())
    second = Flight().end()

    first.refresh_from_db()
    assert second.state == "clean"
    assert first.erased_at is not None
    assert not [word for word in flight.words.words.values() if word in dump() + everything_in(flight.storage)]


@pytest.mark.parametrize("step", [pytest.param("export", marks=LONG), "erase"])
def test_a_killed_process_is_replaced_and_two_are_never_at_work(canary: Canary, step: str) -> None:
    flight = Flight()
    flight.reach(step)
    # As a process leaves it that is killed in the middle.
    execute("UPDATE compliance_canaryturn SET token = gen_random_uuid(), claimed_until = now() + interval '1 minute'")
    before = CanaryTurn.objects.values().get()
    assert turns.begin() == flight.turn
    go_on(seconds=10)
    assert CanaryTurn.objects.values().get() == before

    execute("UPDATE compliance_canaryturn SET claimed_until = now() - interval '1 second'")
    turn = flight.end()

    assert turn.state == "clean"
    assert CanaryTurn.objects.count() == 1
    # Nothing was filed or stored twice.
    assert Conversation.objects.count() == 2
    assert ComplianceRequest.objects.filter(chatbot=canary.chatbot).count() == 2


def test_one_that_has_lost_its_turn_writes_nothing_more(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    step = steps.STEPS["export"]

    def overtaken(work: Any) -> bool:
        with role("owner"):
            execute("UPDATE compliance_canaryturn SET token = gen_random_uuid()")
        return step(work)

    monkeypatch.setattr(steps, "STEPS", {**steps.STEPS, "export": overtaken})
    flight = Flight()
    flight.go_on()

    flight.turn.refresh_from_db()
    assert (flight.turn.step, flight.turn.export_id) == ("export", None)


def test_another_chatbot_is_not_read(canary: Canary, neighbour: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    flight = Flight()
    flight.put("neighbour/chatter_data_exports/42/theirs.csv", b"theirs")
    flight.put(f"uploads/{neighbour.pk}/1", b"theirs")
    read: list[str] = []
    original = ObjectStorage.read_version

    def spy(self: ObjectStorage, key: str, version_id: str = "") -> Any:
        read.append(key)
        return original(self, key, version_id)

    monkeypatch.setattr(ObjectStorage, "read_version", spy)
    assert flight.end().state == "clean"

    assert read
    own = (f"{canary.chatbot.slug}/", f"uploads/{canary.chatbot_id}/", "erasure_ledger/")
    assert [key for key in read if not key.startswith(own)] == []


@LONG
def test_its_keys_are_shown_nowhere_and_can_be_replaced(canary: Canary) -> None:
    before = set(ApiKey.objects.values_list("prefix", flat=True))
    out = StringIO()

    call_command("create_canary", "--new-keys", "--json", stdout=out)

    assert json.loads(out.getvalue()) == {"slug": "canary", "new_keys": True}
    assert set(ApiKey.objects.filter(revoked_at=None).values_list("prefix", flat=True)).isdisjoint(before)
    assert Flight().end().state == "clean"
    with pytest.raises(CommandError, match="There is a canary already"):
        call_command("create_canary")


def test_an_old_turn_is_forgotten_unless_its_chatter_may_be_there(canary: Canary) -> None:
    day = Flight().turn.day
    execute("UPDATE compliance_canaryturn SET state = 'unclear', ended_at = now() - interval '91 days'")
    left = CanaryTurn.objects.create(chatbot=canary.chatbot, day=day, state="running")
    execute(
        "UPDATE compliance_canaryturn SET state = 'unclear', planted_at = now(),"
        " ended_at = now() - interval '91 days' WHERE id = %s",
        left.pk,
    )

    turns.begin()

    assert set(CanaryTurn.objects.exclude(state="running")) == {left}
