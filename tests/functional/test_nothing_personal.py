"""Whatever breaks, no log, no error column and no metric contains personal data or a secret; and logs as JSON."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from chatbots.buckets.locations import bucket_secret_binding
from chatbots.models import Bucket, BucketCheck, Chatbot
from common.crypto import encrypt
from common.storage import ObjectStorage
from compliance.cluster import notify
from compliance.models import Callback, ComplianceRequest, Heartbeat
from compliance.work import bucket_checks
from conversations.models import DailyExtract
from scripts.processes import Processes, children_of, web_command
from tests import factories
from tests.calls import TokenCaller
from tests.conversations.documents import document
from tests.extracting import conversation_on, noon, planned
from tests.factories import conversation_of, deletion_of, export_of
from tests.functional.support import ROOT, dump, manage, rows_of, wait_until, worker_environment
from tests.functional.web import web_server
from tests.hostile import Hostile, behaving
from tests.tokens import Backend, encoded

WORD = "Planted5813"
TOKEN = "a-token-of-the-tests"

# Tables about failures. The error columns of requests, days and callbacks are checked beside these.
TELLING = (
    *("chatbots_bucketcheck", "chatbots_changelogentry", "chatbots_silentstorage", "compliance_claim"),
    *("compliance_heartbeat", "compliance_notice", "compliance_occurrence", "django_q_ormq", "django_q_task"),
)


def echoes(server: Hostile, connection: socket.socket) -> None:
    """Refuse each call, and repeat what it named."""
    while head := server.hear(connection):
        _method, path, _ = head.split(b" ", 2)
        status = (b"500 No", b"403 No", b"400 No", b"301 Moved")[len(server.requests) % 4]
        echo = b"<Error><Code>No %b</Code><Message>%b %b</Message><Key>%b</Key></Error>" % (path, path, head, path)
        body = b"" if head.startswith(b"HEAD") else echo
        connection.sendall(
            b"HTTP/1.1 %b\r\nX-Amz-Said: %b\r\nLocation: http://x%b\r\nContent-Length: %d\r\n\r\n%b"
            % (status, path, path, len(body), body)
        )
        if len(server.requests) % 5 == 0:
            return


@pytest.fixture
def at_client(chatbot: Chatbot) -> Iterator[Hostile]:
    """A chatbot whose client's bucket echoes, with work of all kinds that calls it."""
    with behaving(echoes) as server:
        Bucket.objects.filter(chatbot=chatbot).update(
            hosting="client",
            bucket="clients",
            region="us-east-1",
            endpoint=server.url(),
            access_key_id="key",
            secret_encrypted=encrypt(f"secret-{WORD}", bound_to=bucket_secret_binding(chatbot.pk)),
        )
        conversation = conversation_on(chatbot, WORD, noon())
        factories.UploadedFileFactory.create(conversation=conversation, name=f"{WORD}.pdf", stored=True)
        export_of(chatbot, WORD, reference=f"T-{WORD}", include_files=True)
        planned(chatbot)
        given_up = export_of(
            chatbot, f"{WORD}-2", status="failed", failed_at=timezone.now(), error_code="worker_lost"
        )
        factories.ExportFactory.create(
            request=given_up,
            key=f"chatter_data_exports/{WORD}-2/left.csv",
            hosting="client",
            bucket="clients",
            endpoint=server.url(),
        )
        deletion_of(chatbot, f"{WORD}-2", approved_holds=["export_pending"], reference=f"T-{WORD}")
        bucket_checks.enqueue(chatbot=chatbot)
        yield server


WEB_TABLES = ("chatbots_chatbot", "accounts_loginfailures")


@contextmanager
def renamed(tables: Collection[str]) -> Iterator[None]:
    """Hide tables for a while: statements on them raise a database error."""
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        try:
            yield
        finally:
            for table in tables:
                cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


def failure_texts() -> str:
    """Everything the database contains about failures, as one text."""
    rows = rows_of(dump())
    assert set(TELLING) <= set(rows)
    columns = [
        ComplianceRequest.objects.values_list("error_code", "error_detail"),
        DailyExtract.objects.values_list("error_code", "error_detail"),
        Callback.objects.values_list("last_error", "last_status"),
        Bucket.objects.values_list("last_error"),
    ]
    return repr([rows[table] for table in TELLING] + [list(each) for each in columns])


@pytest.mark.long(reason="a cluster meets each fault, and loses a worker")
def test_logs_of_an_echoing_storage_and_dying_workers_contain_no_personal_data(
    chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage, at_client: Hostile, tmp_path: Path
) -> None:
    log = tmp_path / "cluster.log"
    notify.notify_workers()
    environment = worker_environment() | {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}
    with Processes() as processes:
        first = processes.start("cluster", manage("qcluster"), env=environment, log=log)
        wait_until(lambda: BucketCheck.objects.get().finished_at is not None)
        wait_until(lambda: not ComplianceRequest.objects.filter(chatbot=chatbot, error_code="").exists())
        conversation_of(neighbour, WORD)
        deletion_of(neighbour, WORD, reference=f"T-{WORD}")
        [guard] = children_of(first.pid)
        wait_until(lambda: len(children_of(guard)) == 4)
        os.kill(children_of(guard)[0], signal.SIGKILL)
        notify.notify_workers()
        wait_until(lambda: Heartbeat.objects.filter(died_at__isnull=False).exists())
        wait_until(
            lambda: ComplianceRequest.objects.filter(chatbot=neighbour, status="completed").exists(), seconds=60
        )
    assert len(at_client.requests) > 3
    text = log.read_text()
    assert all(json.loads(line) for line in text.splitlines())
    assert "request.attempt_failed" in text
    assert WORD not in text
    assert WORD not in failure_texts()
    for words in (["health", "--json"], ["health"], ["check_bucket", chatbot.slug]):
        done = subprocess.run(manage(*words), env=environment, capture_output=True, text=True, check=False)
        assert WORD not in done.stdout + done.stderr, words


FORM = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"sessionid={WORD}"}
SENT: list[tuple[str, str, str, dict[str, str]]] = [
    ("GET", f"/api/v1/chatbots/{WORD}/requests", "", {"Authorization": f"Bearer {WORD}"}),
    ("GET", f"/{WORD}?{WORD}={WORD}", "", {"Referer": f"https://{WORD}/"}),
    ("POST", "/api/v1/chatbots/acme/data-deletion", json.dumps({WORD: WORD}), {"Content-Type": f"a/{WORD}"}),
    ("POST", "/admin/login/", f"username={WORD}&password={WORD}", FORM),
    ("GET", "/metrics", "", {"Authorization": f"Bearer {WORD}"}),
    ("GET", f"/metrics?chatbot={WORD}", "", {"Authorization": f"Bearer {TOKEN}"}),
    ("GET", "/metrics?chatbot=acme", "", {"Authorization": f"Bearer {TOKEN}"}),
    ("GET", "/metrics", "", {"Authorization": f"Bearer {TOKEN}"}),
    ("GET", "/api/", "", {"Host": WORD}),
    (WORD.upper(), f"/{WORD}", "", {"X-Request-ID": WORD, "X-Forwarded-For": WORD}),
    ("POST", f"/{WORD}", WORD, {"Content-Length": WORD}),
    ("POST", f"/{WORD}", WORD, {"Transfer-Encoding": WORD}),
]


def test_logs_of_a_breaking_web_server_contain_no_personal_data(chatbot: Chatbot, tmp_path: Path) -> None:
    deletion_of(chatbot, WORD, reference=f"T-{WORD}")
    log = tmp_path / "web.log"
    ours = {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG", "METRICS_TOKEN": TOKEN}
    answers = []
    forged = f"{encoded(Backend(chatbot).header())}.{WORD}.{WORD}"
    bearer = {"Authorization": f"Bearer {TokenCaller(chatbot).token}", "Content-Type": "application/json"}
    signed = json.dumps(document(identity_token=forged))
    sent = [*SENT, ("POST", "/api/v1/chatbots/acme/conversations", signed, bearer)]
    with web_server(log=log, **ours) as server, renamed(WEB_TABLES):
        for method, path, body, headers in sent:
            caller = server.connect()
            caller.request(method, path, body or None, headers)
            answer = caller.getresponse()
            text = answer.read().decode(errors="replace")
            caller.close()
            answers.append(answer.status)
            # gunicorn tells the sender which header is malformed; a proxy refuses it before.
            is_malformed = headers.keys() & {"Content-Length", "Transfer-Encoding"}
            assert is_malformed or "login" in path or WORD not in text
    assert 500 in answers or 503 in answers
    text = log.read_text()
    assert all(json.loads(line) for line in text.splitlines())
    assert WORD.casefold() not in text.casefold()


def environment(**more: str) -> dict[str, str]:
    return worker_environment() | {"LOG_FORMAT": "json", "SECURE_SSL_REDIRECT": "false", **more}


def lines(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in found)
    return found


def test_a_web_server_that_cannot_start_names_the_bad_setting(tmp_path: Path) -> None:
    wrong = environment(RATE_LIMIT_PER_MINUTE="5813 each", WEB_BIND=f"unix:{tmp_path}/web")

    done = subprocess.run(web_command(), check=False, env=wrong, cwd=ROOT, capture_output=True, text=True, timeout=60)

    result, which = done.stderr.splitlines()
    assert (done.returncode, result) == (1, "These settings are missing or wrong (see docs/reference/settings.md):")
    assert which.startswith("  RATE_LIMIT_PER_MINUTE: ")
    assert "5813" not in done.stderr


def test_a_command_that_breaks_ends_with_a_json_line() -> None:
    done = subprocess.run(
        manage("shell", "-v", "0", "-c", "raise KeyError('alice@example.com')"),
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
    )

    [line] = lines(done.stderr)
    assert (done.returncode, line["event"], line["level"]) == (1, "process.failed", "CRITICAL")
    assert line["error"].endswith("builtins.KeyError\n")
    assert "alice" not in done.stderr
