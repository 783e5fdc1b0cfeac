"""Each code sample of the API document, run unchanged against a live server, gets its documented response."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from chatbots.models import Chatbot
from chatbots.operations.chatbots import NewVariable, add_variable, designate_uci
from compliance.models import ComplianceRequest
from config.openapi.document import PRE_REQUEST_SCRIPT
from tests import factories
from tests.calls import SigningCaller, TokenCaller
from tests.document import errors_of, operations

SECRET = "a_secure_secret"
NODE = shutil.which("node")
CRYPTO_JS = Path(settings.BASE_DIR) / "node_modules/crypto-js"

needs_node = pytest.mark.skipif(NODE is None, reason="node is missing: the samples in JavaScript are not run")
needs_crypto_js = pytest.mark.skipif(
    NODE is None or not CRYPTO_JS.exists(), reason="node or node_modules/crypto-js is missing: see README, Tests"
)

LANGUAGES = [
    pytest.param("Shell", "sh", ["bash"], id="curl"),
    pytest.param("Python", "py", [sys.executable], id="python"),
    pytest.param("JavaScript", "mjs", [NODE or "node"], id="javascript", marks=needs_node),
]

Environment = Callable[[str], dict[str, str]]


@pytest.fixture
def environment(live_server, chatbot: Chatbot, storage, tmp_path: Path) -> Environment:
    """The environment of the samples, and the rows that the calls of an operation need."""
    SigningCaller(chatbot, SECRET)
    token = str(TokenCaller(chatbot).token)
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(b"\xff\xd8\xff a picture")

    def made(operation: str) -> dict[str, str]:
        conversation = factories.conversation_of(chatbot, "42", messages=0)
        factories.MessageFactory.create(conversation=conversation, external_id="m1")
        request = _request_for(operation, chatbot)
        factories.CallbackFactory.create(request=request)
        return {
            "PATH": os.environ["PATH"],
            "API": f"{live_server.url}/api/v1/chatbots/{chatbot.slug}",
            "SECRET": SECRET,
            "TOKEN": token,
            "NUMBER": str(conversation.pk),
            "REQUEST_ID": str(request.pk),
            "FILE": str(picture),
        }

    return made


def _request_for(operation: str, chatbot: Chatbot) -> ComplianceRequest:
    if operation in {"approveRequest", "rejectRequest"}:
        held = {"status": "on_hold", "hold_reason": "too_many_conversations", "held_at": factories.NOON}
        return factories.deletion_of(chatbot, "42", **held)
    return factories.deletion_of(chatbot, "42")


@pytest.mark.long(reason="a program for each call of the API, in each language", beyond=1)
@pytest.mark.parametrize(("language", "suffix", "program"), LANGUAGES)
def test_every_sample_gets_its_documented_response(language, suffix, program, environment, tmp_path):
    run = []
    for operation in operations():
        described = operation.document
        for sample in described.get("x-codeSamples", []):
            if sample["lang"] == language:
                source = tmp_path / f"sample.{suffix}"
                source.write_text(sample["source"])
                answer = _run([*program, str(source)], environment(described["operationId"]))
                assert _fits(answer, described), described["operationId"]
                run.append(described["operationId"])
    assert run == [operation.document["operationId"] for operation in operations() if operation.method == "post"]


def _run(argv: list[str], environment: dict[str, str]) -> Any:
    done = subprocess.run(argv, check=False, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _fits(answer: Any, described: dict[str, Any]) -> bool:
    """Return whether the response is a successful one of this call."""
    schemas = [
        content["schema"]
        for status, one in described["responses"].items()
        for content in one.get("content", {}).values()
        if status.startswith("2")
    ]
    return any(errors_of(answer, schema) == [] for schema in schemas)


_POSTMAN = """\
import CryptoJS from "crypto-js";
import {{ Buffer }} from "node:buffer";

const variables = {{ member: "42", secret: process.env.SECRET }};
const raw = '{{"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "{{{{member}}}}"}}';
const headers = {{ "Content-Type": "application/json" }};
const replaceIn = (text) => text.replace(/{{{{(\\w+)}}}}/g, (_, name) => variables[name]);
const pm = {{
  environment: {{ get: (name) => variables[name] }},
  request: {{
    body: {{ toString: () => raw }},
    headers: {{ upsert: ({{ key, value }}) => {{ headers[key] = value; }} }},
  }},
  variables: {{ replaceIn }},
}};

{script}

const url = `${{process.env.API}}/data-deletion`;
const answer = await fetch(url, {{ method: "POST", headers, body: Buffer.from(replaceIn(raw)) }});
if (!answer.ok) process.exitCode = 1;
console.log(await answer.text());
"""


@pytest.mark.long(reason="starts programs")
@needs_crypto_js
def test_the_script_for_postman_signs_a_call_with_the_real_crypto_js(environment, tmp_path):
    source = tmp_path / "postman.mjs"
    source.write_text(_POSTMAN.format(script=PRE_REQUEST_SCRIPT))
    (tmp_path / "node_modules").symlink_to(CRYPTO_JS.parent)
    answer = _run([NODE or "node", str(source)], environment("fileDeletion"))
    assert (answer["kind"], answer["status"]) == ("deletion", "accepted")


@pytest.mark.long(reason="starts a program for each sample")
def test_a_chatbots_own_calls_file_as_the_console_shows_them(
    environment, admin_client, chatbot, live_server, tmp_path
):
    name = """it's "odd" \\ $(echo) `x` </script> {{name}}"""
    add_variable(chatbot=chatbot, variable=NewVariable("custom", name), actor="command")
    designate_uci(chatbot=chatbot, name=name, actor="command")
    page = admin_client.get(f"/admin/settings/{chatbot.slug}/").text
    for kind, number, program in (("delete", 1, "bash"), ("export", 2, sys.executable), ("delete", 3, NODE)):
        [shown] = re.findall(rf'<pre id="call-{kind}-{number}">(.*?)</pre>', page, re.DOTALL)
        source = tmp_path / "sample.mjs"
        source.write_text(html.unescape(shown))
        if program:
            answer = _run([program, str(source)], environment(""))
            assert (answer["status"], answer["kind"][:3]) == ("accepted", kind[:3])
    assert {request.variable.name for request in ComplianceRequest.objects.filter(origin="api")} == {name}
