"""The code samples of the API document and of docs/clients/, run unchanged; tokens that other programs make."""

import csv
import html
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from chatbots.authentication import sign
from chatbots.models import Chatbot
from chatbots.operations.chatbots import NewVariable, add_variable, designate_uci
from chatbots.operations.identity_keys import create_identity_key
from chatbots.operations.keys import create_callback_secret
from compliance.callbacks.queue import RECEIVERS, deliver
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from config.openapi.document import PRE_REQUEST_SCRIPT
from tests import factories
from tests.calls import ALICE, SigningCaller, TokenCaller
from tests.commands import run
from tests.conversations.documents import document
from tests.document import errors_of, operations
from tests.factories import deletion_of
from tests.holding import place
from tests.receivers import Received, receiving
from tests.tokens import claims_of, encoded, private_key, private_pem, public_pem

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
    # A test callback goes there, and finds no receiver.
    Chatbot.objects.filter(pk=chatbot.pk).update(callback_url="http://127.0.0.1:9/nobody")

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
            "HOLD_ID": str(place(chatbot, None)[0].pk),
            "FILE": str(picture),
        }

    return made


def _request_for(operation: str, chatbot: Chatbot) -> ComplianceRequest:
    if operation in {"approveRequest", "rejectRequest", "recordAnswer"}:
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
    page = admin_client.get(f"/admin/settings/{chatbot.slug}/compliance/").text
    for kind, number, program in (("delete", 1, "bash"), ("export", 2, sys.executable), ("delete", 3, NODE)):
        [shown] = re.findall(rf'<pre id="call-{kind}-{number}">(.*?)</pre>', page, re.DOTALL)
        source = tmp_path / "sample.mjs"
        source.write_text(html.unescape(shown))
        if program:
            answer = _run([program, str(source)], environment(""))
            assert (answer["status"], answer["kind"][:3]) == ("accepted", kind[:3])
    assert {request.variable.name for request in ComplianceRequest.objects.filter(origin="api")} == {name}


# Each is called with the secret, the three headers and the body, and prints true or false.
_PYTHON = """
import sys
secret, *values, body = sys.argv[1:]
headers = dict(zip(("webhook-id", "webhook-timestamp", "webhook-signature"), values))
print(is_genuine(secret, headers, body.encode()))
"""
_JS = """
const [secret, id, time, signature, body] = process.argv.slice(2);
const headers = { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": signature };
console.log(isGenuine(secret, headers, Buffer.from(body)));
"""
_SH = """
if printf '%s' "$5" | is_genuine "$1" "$2" "$3" "$4"; then echo true; else echo false; fi
"""
_PROGRAMS = {
    "python": ("py", sys.executable, _PYTHON),
    "js": ("mjs", NODE or "node", _JS),
    "sh": ("sh", "sh", _SH),
}
_LANGUAGES = ["python", "sh", pytest.param("js", marks=needs_node)]


@pytest.fixture
def secrets(chatbot: Chatbot) -> list[str]:
    """The old one and the new one, while both sign."""
    return [create_callback_secret(chatbot=chatbot, actor="command").secret for _ in range(2)]


@pytest.fixture
def received(chatbot: Chatbot, secrets: list[str]) -> Received:
    RECEIVERS.forget()
    with receiving() as receiver:
        request = deletion_of(chatbot, "1", callback_url=receiver.url(), reference="T-7")
        decisions.cancel(request_id=request.pk, actor="command")
        deliver()
    [one] = receiver.received
    return one


@pytest.mark.long(reason="programs in each language", beyond=1)
@pytest.mark.parametrize("language", _LANGUAGES)
def test_the_sample_accepts_a_callback_by_either_secret_only(language, secrets, received, tmp_path) -> None:
    program = _program(language, tmp_path)
    headers = {name.lower(): value for name, value in received.headers.items()}
    body = received.body.decode()

    def says(secret: str, body: str = body, **changed: str) -> bool:
        given = [(headers | changed)[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")]
        argv = [*program, secret, *given, body]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip().lower() in {"true", "false"}, done.stderr
        return done.stdout.strip().lower() == "true"

    assert [says(secret) for secret in secrets] == [True, True]
    assert not says("whsec_" + "A" * 43 + "=")
    assert not says(secrets[0], body.replace("T-7", "T-8"))
    assert not says(secrets[0], **{"webhook-id": "another"})
    assert not says(secrets[0], **{"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)})


def _program(language: str, folder: Path) -> list[str]:
    [sample] = re.findall(rf"^```{language}\n(.*?)^```", page("callbacks"), re.DOTALL | re.MULTILINE)[:1]
    suffix, program, call = _PROGRAMS[language]
    source = folder / f"sample.{suffix}"
    source.write_text(f"{sample}{call}")
    return [program, str(source)]


def page(name: str) -> str:
    return (Path(settings.BASE_DIR) / f"docs/clients/{name}.md").read_text()


def stored_as(chatbot: Chatbot, token: str) -> list[dict[str, Any]]:
    """Return the identities of a conversation that was sent with this token alone."""
    caller = TokenCaller(chatbot)
    answer = caller.post("conversations", document(custom_variables={}, identity_token=token))
    [result] = answer.json()["results"]
    assert result["error"] is None
    identifiers: list[dict[str, Any]] = caller.get(f"conversations/{result['number']}").json()[
        "unique_chatter_identifiers"
    ]
    return identifiers


SIGNED = [{"key": "member_id", "value": "42", "established_by": "signed"}]


def test_the_sample_of_the_documentation_makes_a_token(chatbot: Chatbot) -> None:
    [sample] = re.findall(r"```python\n(.*?)```", page("identity-tokens"), re.DOTALL)
    new = create_identity_key(chatbot=chatbot, label="shop", actor="command")
    names: dict[str, Any] = {}
    exec(sample, names)  # noqa: S102  ours

    token = names["identity_token"](new.secret, new.api_key.prefix, str(chatbot.public_id), "42", "c-1")

    assert stored_as(chatbot, token) == SIGNED


_NODE = """
const {sign} = require('node:crypto');
const [text, key] = process.argv.slice(1);
console.log(sign('sha256', Buffer.from(text), {key, dsaEncoding: 'ieee-p1363'}).toString('base64url'));
"""


@needs_node
def test_node_signs_with_a_key(chatbot: Chatbot) -> None:
    private = private_key("ES256")
    public = public_pem(private)
    key = create_identity_key(chatbot=chatbot, label="shop", public_key=public, actor="command").api_key
    signed = f"{encoded({'alg': 'ES256', 'kid': key.prefix})}.{encoded(claims_of(chatbot.public_id))}"

    words = [NODE or "", "-e", _NODE, signed, private_pem(private)]
    made = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    assert stored_as(chatbot, f"{signed}.{made}") == SIGNED


PACKAGE = "generated_compliance_client"


@pytest.fixture
def client(tmp_path: Path, monkeypatch) -> Iterator[ModuleType]:
    """The package that openapi-python-client makes. It warns of nothing but JSON Lines, which it does not know."""
    call_command("spectacular", format="openapi-json", file=str(tmp_path / "document.json"))
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")  # they would tidy it up
    argv = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--meta", "none"]
    argv += ["--path", "document.json", "--config", "config.yaml", "--output-path", PACKAGE]
    made = subprocess.run(argv, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    assert re.findall(r"(?:WARNING|Unable to|Unsupported).*", made.stdout + made.stderr) == [
        "WARNING parsing POST /api/v1/chatbots/{slug}/conversations within conversations.",
        "Unsupported content type application/x-ndjson",
        "WARNING parsing GET /api/v1/chatbots/{slug}/changelog within change_log.",
        "Unsupported content_type application/x-ndjson), response will be omitted from generated client",
    ]
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(PACKAGE)
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def _call(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.api.{name}")


def _models() -> Any:
    return importlib.import_module(f"{PACKAGE}.models")


def _signs(request: Any) -> None:
    timestamp = str(int(time.time()))
    signature = sign(secret=SECRET, timestamp=timestamp, body=request.content)
    request.headers.update({"X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": signature})


@pytest.mark.long(reason="a client is generated")
def test_a_generated_client_exports_a_chatter_with_a_token_and_deletes_one_with_a_signature(
    client, live_server, chatbot, storage
):
    SigningCaller(chatbot, SECRET)
    token = TokenCaller(chatbot).token
    conversation = factories.conversation_of(chatbot, "alice-77", messages=2, text="My parcel is late.")
    slug = chatbot.slug

    with client.AuthenticatedClient(live_server.url, token, follow_redirects=True) as caller:
        document = _models().Document.from_dict(
            {"id": "c-9", "channel": "widget", "started_at": "2026-11-23T09:00:00Z"}
        )
        stored = _call("conversations.store_conversations").sync(slug, client=caller, body=[document])
        assert [result.outcome.value for result in stored.results] == ["created"]
        filed = _call("requests.file_export").sync(slug, client=caller, body=_models().ExportBody(**ALICE))
        assert (filed.kind.value, filed.status.value, filed.result) == ("export", "accepted", None)
        run("process_requests")
        followed = _call("requests.get_request").sync(slug, filed.request_id, client=caller)
        assert (followed.status.value, followed.export.rows) == ("completed", 2)
        file = _call("requests.download_export").sync_detailed(slug, filed.request_id, client=caller)
        rows = list(csv.DictReader(io.StringIO(file.content.decode())))
        assert [row["text"] for row in rows] == ["My parcel is late."] * 2

        with client.Client(live_server.url, httpx_args={"event_hooks": {"request": [_signs]}}) as signer:
            body = _models().DeletionBody(**ALICE, action="delete")
            deletion = _call("requests.file_deletion").sync(slug, client=signer, body=body)
        run("process_requests")
        followed = _call("requests.get_request").sync(slug, deletion.request_id, client=caller)
        assert (followed.status.value, followed.counts.conversations) == ("completed", 1)

        unknown = _call("requests.file_export").sync(
            slug, client=caller, body=_models().ExportBody.from_dict(ALICE | {"unique_chatter_identifier_key": "no"})
        )
        assert isinstance(unknown, _models().Problem)
        assert unknown.code.value == "unknown_uci_key"
    conversation.refresh_from_db()
    assert conversation.deleted_at is not None
