"""schemathesis calls the whole API by its document, and finds no difference.

`make fuzz` is the long run. FUZZ_EXAMPLES and FUZZ_SEED make another one of this test.
"""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from chatbots.models import ApiKey, Chatbot
from conversations.models import Conversation, DailyExtract
from tests import factories
from tests.calls import SigningCaller, TokenCaller
from tests.commands import run
from tests.document import operations
from tests.functional.support import ROOT
from tests.functional.web import web_server
from tests.holding import place
from tests.tokens import DAY, Backend

SECRET = "a_secure_secret"
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "1")
SEED = os.environ.get("FUZZ_SEED", "1")

pytestmark = [pytest.mark.fuzz, pytest.mark.long(reason="schemathesis makes thousands of calls")]


def _world(chatbot: Chatbot) -> dict[str, Any]:
    """Fill the chatbot with rows of each kind, and return the values used in URLs."""
    for value in ("1", "2", "3", "4"):
        factories.conversation_of(chatbot, value, messages=2, external_id=f"c-{value}")
    stored = {"conversation": _first_conversation(), "size": 3, "sha256": "0" * 64, "state": "stored"}
    files = [factories.UploadedFileFactory.create(chatbot=chatbot, **stored) for _ in range(2)]
    done = [factories.export_of(chatbot, "1"), factories.deletion_of(chatbot, "2")]
    run("process_requests")
    now = timezone.now()
    held = {"status": "on_hold", "hold_reason": "too_many_conversations", "held_at": now}
    open_ones = [
        factories.deletion_of(chatbot, "3", **held),
        factories.export_of(chatbot, "3", **held),
        factories.deletion_of(chatbot, "4"),
        factories.export_of(chatbot, "4"),
        factories.export_of(chatbot, "4", status="failed", failed_at=now, error_code="storage_unavailable"),
    ]
    for request in done:
        factories.CallbackFactory.create(request=request, delivered=True)
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="http://127.0.0.1:9/nobody")
    for request in open_ones:
        factories.CallbackFactory.create(request=request)
    DailyExtract.objects.create(
        chatbot=chatbot,
        day=date(2026, 11, 23),
        starts_at=datetime(2026, 11, 23, tzinfo=UTC),
        ends_at=datetime(2026, 11, 24, tzinfo=UTC),
        state="done",
        key=f"{chatbot.slug}/daily_conversations_extracts/2026-11-23_conversations_extract.csv",
        rows=0,
        bytes=0,
        sha256="0" * 64,
        finished_at=now,
        expires_at=now + timedelta(days=40),
    )
    return {
        "slug": chatbot.slug,
        "request_id": [str(request.pk) for request in (*done, *open_ones)],
        "hold_id": [str(place(chatbot, "1", matter=f"case-{letter}")[0].pk) for letter in "abc"],
        "number": list(Conversation.objects.order_by("pk").values_list("pk", flat=True)),
        "file_id": [file.pk for file in files],
        "day": ["2026-11-23"],
        "identity_tokens": _identity_tokens(chatbot),
        "message_ids": [one.external_id for one in _first_conversation().message_set.order_by("pk")],
        "cursor": _cursors(chatbot),
    }


def _identity_tokens(chatbot: Chatbot) -> list[str | None]:
    """Return a token of each algorithm, each also with a changed signature, and none."""
    tokens = [Backend(chatbot, algorithm).token("1", exp=int(time.time()) + DAY) for algorithm in ApiKey.Algorithm]
    return [*tokens, *(f"{token[:-8]}AAAAAAAA" for token in tokens), None]


def _first_conversation() -> Conversation:
    return Conversation.objects.earliest("pk")


def _cursors(chatbot: Chatbot) -> dict[str, str]:
    """Return a cursor of each call that has pages, by its path in the document."""
    caller = TokenCaller(chatbot)
    found = {}
    for operation in operations():
        if any(one.get("name") == "cursor" for one in operation.document["parameters"]):
            path = operation.path.split("{slug}/")[1].replace("{number}", str(_first_conversation().pk))
            answer = caller.get(f"{path}?limit=1")
            following = answer.headers.get("Link") or answer.json()["next"]
            found[operation.path] = re.split("[&>]", following.split("cursor=")[1])[0]
    return found


def test_the_api_matches_its_document_whatever_is_sent(chatbot: Chatbot, storage, tmp_path):
    environment = os.environ | {
        "TOKEN": str(TokenCaller(chatbot).token),
        "SECRET": SigningCaller(chatbot, SECRET).secret,
        "WORLD": json.dumps(_world(chatbot)),
        "SCHEMATHESIS_HOOKS": "tests.functional.fuzz_hooks",
    }
    with web_server(RATE_LIMIT_PER_MINUTE="0") as server:
        argv = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", "tests/functional/fuzz.toml"]
        argv += [
            "run",
            "--checks",
            "all",
            f"http://127.0.0.1:{server.port}/api/schema/",
            "--seed",
            SEED,
            "--max-examples",
            EXAMPLES,
        ]
        run = subprocess.run(argv, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
