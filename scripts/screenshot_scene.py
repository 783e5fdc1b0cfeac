"""The data in the pictures: the sample companies, their staff, and requests in each state. All of it is invented.

Work of workers is done by their code; states that cannot be reached on demand (a failure, a claimed request) are
written.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import Count
from django.test import Client
from django.utils import timezone
from uuid_utils.compat import uuid7

from chatbots import changelog
from chatbots.buckets import hosted_storage
from chatbots.models import ApiKey, Chatbot, Membership
from chatbots.operations.chatbots import change_chatbot, set_role
from chatbots.operations.keys import create_api_key
from compliance import worker
from compliance.erasure import extracts
from compliance.models import Callback, Claim, ComplianceRequest, Export, ExportFile
from compliance.requests import decisions
from compliance.requests.queries import first_id
from compliance.requests.selectors import ByUci
from compliance.requests.submit import submit
from conversations.extracts import days
from conversations.identification import GivenIdentity, identify
from conversations.models import Conversation, DailyExtract, Identity
from devdata.sample_data import COMPANIES

Kind, Origin, Status = ComplianceRequest.Kind, ComplianceRequest.Origin, ComplianceRequest.Status

SHOWN = COMPANIES[0]
SCALE = 8


@dataclass(frozen=True)
class Scene:
    """The ids that pictures need, and the sessions of the users who open the pages."""

    address: str
    cookie: str
    sessions: dict[str, str]
    slug: str
    requests: dict[str, UUID]
    conversation: int
    deleted_conversation: int
    deleted_value: str
    open_value: str
    many_values: Sequence[str]
    pages: Path


def build(start: Callable[[], str]) -> Scene:
    """Fill the empty copy, start the programs with `start`, which returns their address, and return the scene."""
    call_command("migrate", verbosity=0)
    call_command("seed_demo", "--scale", str(SCALE), verbosity=0)
    chatbot = Chatbot.objects.get(slug=SHOWN.slug)
    people = _people()
    _set_up(chatbot)
    values = _chatters(chatbot)
    requests = _requests(chatbot, values, officer=people["officer"])
    _refuse(chatbot, values[0])
    _callbacks(requests)
    _extracts(chatbot)
    _history(chatbot)
    return Scene(
        address=start(),
        cookie=settings.SESSION_COOKIE_NAME,
        sessions={name: _session(user) for name, user in people.items()},
        slug=chatbot.slug,
        requests={name: request.pk for name, request in requests.items()},
        conversation=_richest(chatbot),
        deleted_conversation=Conversation.objects.filter(deleted_at__isnull=False).latest("started_at").pk,
        deleted_value=values[0],
        open_value=values[6],
        many_values=[*values[6:11], values[7], f" {values[11]}", "M-99999"],
        pages=_pages(requests["exported_too"]),
    )


def _pages(request: ComplianceRequest) -> Path:
    """Write the pages of an export as its recipient has them, and return their folder."""
    folder = Path(mkdtemp(dir=settings.BASE_DIR / "var" / "screenshots"))
    for file in ExportFile.objects.filter(export__request=request):
        (folder / file.name).write_bytes(hosted_storage().read(file.key))
    return folder


def _people() -> dict[str, User]:
    superuser = User.objects.create_superuser("root", password=secrets.token_urlsafe(12))
    officer = User.objects.create_user("mira.voss", is_staff=True)
    helper = User.objects.create_user("jonas.birk", is_staff=True)
    for chatbot in Chatbot.objects.all():
        set_role(chatbot=chatbot, user=officer, role=Membership.Role.OFFICER, actor="command")
        set_role(chatbot=chatbot, user=helper, role=Membership.Role.SUPPORT, actor="command")
    return {"superuser": superuser, "officer": officer}


def _session(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def _set_up(chatbot: Chatbot) -> None:
    kinds = (
        (ApiKey.Type.SIGNING, "Shop backend", ()),
        (ApiKey.Type.TOKEN, "Chat platform", ("conversations:write",)),
    )
    for kind, label, scopes in kinds:
        create_api_key(chatbot=chatbot, type=kind, label=label, scopes=scopes, actor="command")
    change_chatbot(chatbot=chatbot, changes={"extracts_enabled": True}, actor="command")


def _chatters(chatbot: Chatbot) -> list[str]:
    """Return UCI values, recent chatters with a few conversations first."""
    of_each = (
        Identity.objects.filter(chatbot=chatbot)
        .values_list("value")
        .annotate(conversations=Count("pk"))
        .filter(conversations__gte=3, conversations__lte=9)
    )
    several = dict(of_each)
    latest = Identity.objects.filter(chatbot=chatbot, value__in=several).order_by("-conversation__started_at")
    return list(dict.fromkeys(str(value) for value in latest.values_list("value", flat=True)))


def _requests(chatbot: Chatbot, values: Sequence[str], *, officer: User) -> dict[str, ComplianceRequest]:
    mira = f"user:{officer.pk}"
    client = f"api:{chatbot.api_keys.get(type=ApiKey.Type.SIGNING).prefix}"

    def file(
        kind: ComplianceRequest.Kind,
        value: str,
        *,
        origin: ComplianceRequest.Origin = Origin.API,
        reference: str = "",
        formats: Sequence[str] = (),
    ) -> ComplianceRequest:
        actor = mira if origin == Origin.CONSOLE else client
        about = ByUci(SHOWN.uci.name, value)
        return submit(
            chatbot=chatbot,
            kind=kind,
            selector=about,
            origin=origin,
            actor=actor,
            reference=reference,
            formats=formats,
        )

    made = {
        "completed": file(Kind.DELETION, values[0], reference="CASE-20417"),
        "nothing": file(Kind.DELETION, "M-90001", reference="CASE-20418"),
        "exported": file(Kind.EXPORT, values[1], reference="CASE-20419"),
        "exported_too": file(Kind.EXPORT, values[2], reference="CASE-20422", formats=["csv", "html"]),
    }
    worker.drain(seconds=60)
    guard = {"max_conversations_per_deletion": 2}
    change_chatbot(chatbot=chatbot, changes=guard, actor="command")
    chatbot.refresh_from_db()
    made["held"] = file(Kind.DELETION, values[3], reference="CASE-20430")
    made["overdue"] = file(Kind.DELETION, values[4], reference="CASE-20395")
    worker.drain(seconds=60)
    _write(made["overdue"], due_at=timezone.now() - timedelta(days=2))
    _write(made["held"], due_at=timezone.now() + timedelta(days=4))

    made["waiting"] = file(Kind.DELETION, values[6], origin=Origin.CONSOLE, reference="CASE-20433")
    made["cancelled"] = file(Kind.EXPORT, values[5], origin=Origin.CONSOLE, reference="CASE-20431")
    note = "Has asked for a copy by letter instead."
    decisions.cancel(request_id=made["cancelled"].pk, actor=mira, reason="withdrawn_by_person", note=note)

    made["failed"] = file(Kind.EXPORT, values[7], reference="CASE-20428")
    made["processing"] = file(Kind.DELETION, values[8], reference="CASE-20432")
    _fail(made["failed"])
    _take(made["processing"])
    return made


def _write(request: ComplianceRequest, **fields: Any) -> None:
    ComplianceRequest.objects.filter(pk=request.pk).update(**fields)


def _fail(request: ComplianceRequest) -> None:
    code, detail = "storage_access_denied", "The bucket refused s3:PutObject. Grant it to the key."
    now = timezone.now()
    _write(
        request,
        status=Status.FAILED,
        started_at=now,
        failed_at=now,
        attempts=5,
        error_code=code,
        error_detail=detail,
    )
    _record("request.started", request, conversations=5)
    _record("request.failed", request, code=code, attempts=5)


def _record(event: str, request: ComplianceRequest, **data: str | int) -> None:
    changelog.record(event, chatbot_id=request.chatbot_id, request_id=request.pk, actor="worker", data=data)


def _take(request: ComplianceRequest) -> None:
    """Let a worker claim the request that will never finish it."""
    now = timezone.now()
    claim = Claim.objects.create(
        owner="worker-1:2710:2714", token=uuid7(), is_large=True, expires_at=now + timedelta(hours=4)
    )
    counts = {"conversations_total": 1_240, "conversations": 806, "messages": 11_204, "files": 93}
    counts |= {"identities": 806, "variable_values": 1_377}
    marked = {"cutoff_at": now, "cutoff_number": Conversation.objects.latest("pk").pk}
    _write(request, status=Status.PROCESSING, claim=claim, lane="large", started_at=now, **marked, **counts)
    _record("request.started", request, conversations=counts["conversations_total"])


def _refuse(chatbot: Chatbot, erased: str) -> None:
    """Identify an erased chatter in conversations of others."""
    others = Identity.objects.filter(chatbot=chatbot, conversation__deletion_request_id=None).order_by("pk")[:3]
    identities = [GivenIdentity(number=one.conversation_id, key=SHOWN.uci.name, value=erased) for one in others]
    for way in (Identity.EstablishedBy.ASSERTED, Identity.EstablishedBy.RESOLVED):
        identify(chatbot=chatbot, identities=identities[:2] if way == "asserted" else identities, way=way)


def _callbacks(requests: dict[str, ComplianceRequest]) -> None:
    now = timezone.now()
    common = {"give_up_at": now + timedelta(days=1), "expires_at": now + timedelta(days=30)}
    url = "https://hooks.lantern-books.example/privacy"
    states: list[tuple[str, dict[str, Any]]] = [
        ("completed", {"status": "completed", "result": "done", "state": "delivered", "delivered_at": now}),
        ("nothing", {"status": "completed", "result": "nothing_found", "state": "delivered", "delivered_at": now}),
        ("cancelled", {"status": "cancelled", "state": "given_up", "url": url, "last_error": "bad_status"}),
        ("failed", {"status": "failed", "error_code": "storage_access_denied", "state": "waiting", "url": url}),
    ]
    for number, (name, fields) in enumerate(states):
        waits = fields["state"] == "waiting"
        Callback.objects.create(
            id=uuid7(),
            chatbot_id=requests[name].chatbot_id,
            request=requests[name],
            occurred_at=now - timedelta(seconds=number),
            next_attempt_at=now + timedelta(hours=1) if waits else None,
            last_status={"delivered": 204, "given_up": 500}.get(fields["state"]),
            attempts={"delivered": 1, "given_up": 30}.get(fields["state"], 0),
            **common,
            **fields,
        )


def _extracts(chatbot: Chatbot) -> None:
    newest = days.last_day_over(chatbot.timezone, timezone.now())
    for extract in extracts.prepare(chatbot, newest - timedelta(days=6), newest):
        if extract.day == newest - timedelta(days=4):
            error = {"error_code": "storage_unavailable", "error_detail": "The storage did not answer."}
            DailyExtract.objects.filter(pk=extract.pk).update(state="failed", attempts=5, **error)
        else:
            extracts.build_now(extract)


def _history(chatbot: Chatbot) -> None:
    """Create completed requests of the last weeks, for the dashboard's counts."""
    random = Random("history")  # noqa: S311  for pictures
    variable = chatbot.variables.get(is_uci=True)
    now = timezone.now()
    rows = []
    for day in range(1, 30):
        for place in range(random.randint(1, 4 + 3 * (day % 7 not in (1, 2)))):
            received = now - timedelta(days=day, hours=random.random() * 9)
            completed = received + timedelta(minutes=random.expovariate(1 / 9), hours=28 * (random.random() < 0.05))
            row = ComplianceRequest(
                id=UUID(int=first_id(received).int + (7 << 76) + (2 << 62) + random.getrandbits(61)),
                chatbot=chatbot,
                variable=variable,
                kind=Kind.EXPORT if random.random() < 0.3 else Kind.DELETION,
                origin=Origin.API,
                status=Status.COMPLETED,
                result="done",
                filed_by="api:shop",
                reference=f"CASE-{20_400 - day * 9 - place}",
                received_at=received,
                queued_at=received,
                started_at=completed - timedelta(seconds=4),
                cutoff_at=completed - timedelta(seconds=3),
                cutoff_number=0,
                completed_at=completed,
                due_at=received + timedelta(days=30),
                conversations=random.randint(1, 9),
                messages=random.randint(8, 140),
            )
            row.conversations_total = row.conversations
            rows.append(row)
    ComplianceRequest.objects.bulk_create(rows)
    Export.objects.bulk_create(
        Export(
            request=row,
            chatbot=chatbot,
            rows=row.messages,
            bytes=row.messages * 180,
            sha256=sha256(row.reference.encode()).hexdigest(),
            finished_at=row.completed_at,
            removed_at=now,
        )
        for row in rows
        if row.kind == Kind.EXPORT
    )


def _richest(chatbot: Chatbot) -> int:
    """Return an open conversation with messages of a bot, a user and an agent, and a file."""
    known = Identity.objects.filter(chatbot=chatbot).values("conversation")
    whole = Conversation.objects.filter(chatbot=chatbot, deletion_request_id=None, language="en", pk__in=known)
    return (
        whole.filter(has_agent_handover=True, has_file_upload=True).exclude(user_name=None).latest("message_count").pk
    )
