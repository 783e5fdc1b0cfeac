"""Request status over HTTP: the request object in each state, and permissions."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db.models.functions import Now

from chatbots.models import Chatbot
from compliance.api.schemas import RequestObject
from compliance.models import ComplianceRequest, Export, ExportFile, LeftCopy
from compliance.requests import results
from conversations.models import DailyExtract
from tests import factories
from tests.calls import TokenCaller
from tests.factories import NOON, ExportFactory, deletion_of, export_of

Status = ComplianceRequest.Status
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
FIELDS = {
    *(
        "request_id",
        "kind",
        "status",
        "hold_reason",
        "selector",
        "result",
        "reference",
        "received_at",
        "requested_at",
        "csv_dialect",
        "formats",
        "archive",
    ),
    "not_before",
    *("deadline", "extended_at", "extension_reason", "answered_at"),
    *("due_at", "started_at", "finished_at", "status_url", "progress", "counts", "export", "error"),
    "assurance",
    "unverified_left_out",
    "kept_exports",
    *("waiting_for", "delivered_extracts", "retention", "redaction", "repeated_by", "repeats"),
    *("withheld", "continues", "continued_by"),
}

NO_EXTRACTS = {"extracts_done": 0, "extracts_total": 0}


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot, scopes=["requests:read"])


def whole_export(chatbot: Chatbot, **changes) -> Export:
    request = export_of(chatbot, "alice-77", status=Status.ACCEPTED)
    return ExportFactory.create(
        **{
            "request": request,
            "key": "acme/chatter_data_exports/alice-77/20261124_120000_conversation_export.csv",
            "rows": 3,
            "bytes": 512,
            "sha256": "0" * 64,
            "finished_at": Now(),
            "expires_at": datetime(2027, 1, 3, tzinfo=UTC),
        }
        | changes
    )


def test_a_request_just_accepted_is_shown_whole(caller, chatbot):
    request = deletion_of(chatbot, "alice-77", reference="ticket-1")
    response = caller.get(f"requests/{request.pk}")
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == FIELDS
    assert answer["request_id"] == str(request.pk)
    assert (answer["kind"], answer["status"], answer["reference"]) == ("deletion", "accepted", "ticket-1")
    for name in ("hold_reason", "result", "started_at", "finished_at", "not_before", "export", "error"):
        assert answer[name] is None
    for name in ("received_at", "due_at"):
        assert RFC_3339.fullmatch(answer[name])
    assert answer["progress"] == {"conversations_done": 0, "conversations_total": 0, **NO_EXTRACTS}
    assert answer["counts"] == dict.fromkeys(results.COUNTED, 0)
    assert answer["status_url"].endswith(f"/api/v1/chatbots/acme/requests/{request.pk}")
    assert "alice-77" not in response.content.decode()


def test_a_completed_deletion_shows_what_was_done(caller, chatbot):
    request = deletion_of(
        chatbot,
        None,
        status=Status.COMPLETED,
        result="done",
        started_at=Now(),
        completed_at=Now(),
        conversations_total=2,
        conversations=2,
        messages=40,
        identities=2,
        variable_values=3,
        files=4,
        exports=1,
    )
    answer = caller.get(f"requests/{request.pk}").json()
    assert (answer["status"], answer["result"]) == ("completed", "done")
    assert RFC_3339.fullmatch(answer["started_at"])
    assert RFC_3339.fullmatch(answer["finished_at"])
    assert answer["progress"] == {"conversations_done": 2, "conversations_total": 2, **NO_EXTRACTS}
    assert list(answer["counts"].values()) == [2, 40, 2, 3, 4, 1, 0, 0]


def test_a_request_that_is_held_or_ended_undone_shows_why_and_when(caller, chatbot):
    of_hold = {"status": Status.ON_HOLD, "hold_reason": "too_many_conversations", "held_at": Now()}
    answer = caller.get(f"requests/{deletion_of(chatbot, 'alice-77', **of_hold).pk}").json()
    assert (answer["status"], answer["hold_reason"]) == ("on_hold", "too_many_conversations")
    assert answer["finished_at"] is None

    error = {"code": "storage_unavailable", "detail": "The storage does not answer."}
    failed = {"status": Status.FAILED, "failed_at": Now()} | {f"error_{name}": one for name, one in error.items()}
    for value, retryable in (("alice-77", True), (None, False)):
        answer = caller.get(f"requests/{export_of(chatbot, value, **failed).pk}").json()
        assert answer["error"] == error | {"retryable": retryable}
        assert RFC_3339.fullmatch(answer["finished_at"])

    for status, field in ((Status.CANCELLED, "cancelled_at"), (Status.REJECTED, "rejected_at")):
        request = deletion_of(chatbot, None, **{"status": status, field: Now()})
        answer = caller.get(f"requests/{request.pk}").json()
        assert (answer["status"], answer["error"], answer["result"]) == (status, None, None)
        assert RFC_3339.fullmatch(answer["finished_at"])


def test_a_whole_export_shows_its_file(caller, chatbot, settings):
    export = whole_export(chatbot)
    answer = caller.get(f"requests/{export.request_id}").json()
    assert answer["export"] == {
        "hosting": "hosted",
        "bucket": settings.S3_BUCKET,
        "key": export.key,
        "rows": 3,
        "bytes": 512,
        "sha256": "0" * 64,
        "expires_at": "2027-01-03T00:00:00.000000Z",
        "files": [],
    }
    Export.objects.update(key=None, removed_at=Now())
    removed = caller.get(f"requests/{export.request_id}").json()["export"]
    assert (removed["key"], removed["sha256"]) == (None, "0" * 64)
    under_way = whole_export(chatbot, finished_at=None, rows=None, bytes=None, sha256=None, upload_id="u-1")
    assert caller.get(f"requests/{under_way.request_id}").json()["export"] is None


@pytest.mark.filterwarnings("error:Pydantic")  # one of pydantic's would quote the value
def test_what_another_version_has_stored_is_shown_as_it_is(caller, chatbot):
    held = deletion_of(chatbot, "alice-77", status=Status.ON_HOLD, hold_reason="from_elsewhere", held_at=Now())
    done = deletion_of(chatbot, None, status=Status.COMPLETED, completed_at=Now(), result="from_elsewhere")
    export = whole_export(chatbot, hosting="outside")
    ComplianceRequest.objects.filter(pk=export.request_id).update(include_files=True)
    ExportFile.objects.create(chatbot=chatbot, export=export, file_id=1, key="c1")
    LeftCopy.objects.create(chatbot=chatbot, deletion=done, export=export)
    factories.CallbackFactory.create(request=held, given_up=True, last_error="from_elsewhere")

    def answer(path):
        """Not compared with the document, which does not list it."""
        response = caller.client.get(caller.url(path), headers=caller.credentials(b""))
        assert response.status_code == 200
        return response.json()

    shown = {one["request_id"]: one for one in answer("requests")["results"]}
    assert shown[str(held.pk)]["hold_reason"] == "from_elsewhere"
    assert shown[str(done.pk)]["result"] == "from_elsewhere"
    assert [kept["hosting"] for kept in shown[str(done.pk)]["kept_exports"]] == ["outside"]
    assert shown[str(export.request_id)]["export"]["hosting"] == "outside"
    assert shown[str(export.request_id)]["export"]["files"] == [
        {"name": "c1", "file_id": 1, "key": "c1", "bytes": None, "sha256": None}
    ]
    [callback] = answer(f"requests/{held.pk}/callbacks")["callbacks"]
    assert callback["last_error"] == "from_elsewhere"


def test_the_key_of_an_export_is_shown_to_holders_of_requests_read_alone(chatbot):
    export = whole_export(chatbot)
    shown = RequestObject.of(export.request, status_url="", shows_key=False).model_dump(mode="json")["export"]
    assert shown["key"] is None
    assert shown["rows"] == 3


def test_times_are_shown_in_utc_whatever_their_zone(chatbot):
    request = deletion_of(chatbot, "alice-77")
    request.started_at = datetime(2026, 11, 24, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert (
        RequestObject.of(request, status_url="", shows_key=False).model_dump(mode="json")["started_at"]
        == "2026-11-23T23:30:00.000000Z"
    )


def test_following_a_request_takes_three_queries(caller, chatbot, django_assert_max_num_queries):
    request = deletion_of(chatbot, "alice-77")
    caller.get(f"requests/{request.pk}")
    with django_assert_max_num_queries(3):  # for the state of the service, the key, the request
        caller.get(f"requests/{request.pk}")


def requests_of_all_kinds(chatbot: Chatbot, number: int) -> list[ComplianceRequest]:
    """An export with a copy, a deletion that kept it and met days of both kinds, one running, one failed."""
    value = f"person {number}"
    made = export_of(chatbot, value, include_files=True)
    ended = {"uci_value": None, "status": Status.COMPLETED, "completed_at": Now(), "result": "done"}
    done = deletion_of(chatbot, value, started_at=Now(), cutoff_at=Now(), extracts=1)
    export = ExportFactory.create(request=made, key=f"k{number}", rows=1, bytes=1, sha256="0" * 64, finished_at=Now())
    LeftCopy.objects.create(chatbot=chatbot, deletion=done, export=export)
    ExportFile.objects.create(
        chatbot=chatbot, export=export, file_id=number, key=f"c{number}", bytes=1, sha256="0" * 64
    )
    for hosting in ("hosted", "client"):
        extract = DailyExtract.objects.create(
            chatbot=chatbot,
            day=NOON.date() + timedelta(days=2 * number + (hosting == "client")),
            starts_at=NOON,
            ends_at=NOON + timedelta(days=1),
            state="done",
            hosting=hosting,
            rows=1,
            bytes=1,
            sha256="0" * 64,
            finished_at=NOON,
            key=hosting,
            made_version=1,
        )
        if hosting == "client":
            LeftCopy.objects.create(chatbot=chatbot, deletion=done, extract=extract)
    ComplianceRequest.objects.filter(pk__in=[made.pk, done.pk]).update(**ended)
    under_way = deletion_of(chatbot, value, status=Status.PROCESSING, started_at=Now(), cutoff_at=Now())
    failed = export_of(chatbot, value, status=Status.FAILED, failed_at=Now(), error_code="x")
    return [made, done, under_way, failed]


def test_many_requests_take_as_many_queries_as_one_of_each_kind(chatbot, django_assert_num_queries):
    requests_of_all_kinds(factories.ready_chatbot(slug="other"), 9)
    ids = [request.pk for number in range(4) for request in requests_of_all_kinds(chatbot, number)]
    for some in (ids[:4], ids):
        with django_assert_num_queries(4):
            requests = list(ComplianceRequest.objects.filter(pk__in=some).order_by("seq"))
            objects = RequestObject.all_of(requests, status_url=lambda request: str(request.pk), shows_key=True)
        shown = [one.model_dump(mode="json") for one in objects]
        assert [one["request_id"] for one in shown] == [one["status_url"] for one in shown] == list(map(str, some))
        for number in range(len(some) // 4):
            made, done, under_way, failed = shown[4 * number : 4 * number + 4]
            assert made["export"]["key"] == f"k{number}"
            assert [copy["key"] for copy in made["export"]["files"]] == [f"c{number}"]
            assert [kept["request_id"] for kept in done["kept_exports"]] == [made["request_id"]]
            assert len(done["delivered_extracts"]) == done["progress"]["extracts_total"] == 1
            for one in (made, under_way, failed):
                assert (one["kept_exports"], one["delivered_extracts"]) == ([], [])
            assert (under_way["export"], failed["export"]) == (None, None)


def test_head_answers_as_get_without_a_body(caller, chatbot):
    request = deletion_of(chatbot, "alice-77")
    response = caller.client.head(caller.url(f"requests/{request.pk}"), headers=caller.credentials(b""))
    assert (response.status_code, response.content) == (200, b"")
