"""The package for TypeScript: what it signs and accepts, and its types, which are made from the API's document."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chatbots.callback_secrets import Signers
from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from tests.calls import SigningCaller, TokenCaller
from tests.functional.support import ROOT
from tests.functional.web import web_server

NODE = shutil.which("node")
LIBRARIES = ("@hey-api/openapi-ts", "standardwebhooks", "typescript")
HAS_LIBRARIES = all((ROOT / "node_modules" / name).exists() for name in LIBRARIES)

pytestmark = pytest.mark.skipif(
    not (NODE and HAS_LIBRARIES), reason="node or its packages are missing: see README, Tests"
)

# As `create_callback_secret` makes them.
OLD, NEW, OTHER = (f"whsec_{letter * 43}=" for letter in "AEI")
ID = UUID("01a20e4f-9a41-7c0e-8d2f-3c1f5e0b7a66")
EVENTS = re.findall(r"```json\n(\{\"callback_id\".*?)```", (ROOT / "docs/reference/events.md").read_text(), re.DOTALL)
PAGE = (ROOT / "docs/clients/use-typescript.md").read_text()


def node(program: str, given: Any = None, *, folder: Path = ROOT) -> Any:
    """Run a module, which has `given` and the client, and return what it puts into `said`."""
    start = f"import * as client from {json.dumps(str(ROOT / 'client/typescript/index.js'))};"
    module = f"{start} const given = {json.dumps(given)}; let said; {program}; console.log(JSON.stringify(said));"
    argv = [NODE or "", "--input-type=module", "--eval", module]
    done = subprocess.run(argv, cwd=folder, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_signs_as_the_documentation_says() -> None:
    page = (ROOT / "docs/clients/sign-a-call.md").read_text()
    [(secret, timestamp, body, signature)] = re.findall(
        r"secret `(.+?)`, timestamp `(.+?)` and the body\n`(.+?)` give\n`(.+?)`", page
    )

    said = node("said = await Promise.all(given.map((body) => client.sign(...body)))", [[secret, timestamp, body]])

    assert said == [signature]


_VERIFIES = """
import { Webhook } from "standardwebhooks";
const accepted = async (verify) => { try { return (await verify()).event; } catch { return null; } };
said = await Promise.all(given.map(async ([secret, headers, body]) => [
  await accepted(() => client.verifyCallback(secret, headers, body)),
  await accepted(() => new Webhook(secret).verify(body, headers)),
]))
"""


def test_it_accepts_the_services_callbacks_and_no_others_as_another_implementation_does() -> None:
    now = int(time.time())
    body = EVENTS[0]

    def sent(at: int | str = now, **changed: str) -> dict[str, str]:
        headers = Signers((NEW, OLD)).headers(message_id=ID, timestamp=str(at), body=body.encode())
        return {**headers, **{name.replace("_", "-"): value for name, value in changed.items()}}

    accepted = {
        "the newer of two secrets": (NEW, sent(), body),
        "the older": (OLD, sent(), body),
        "old, but not too old": (NEW, sent(now - 200), body),
        "names of headers in another case": (NEW, {name.title(): value for name, value in sent().items()}, body),
        "beside what is no signature": (
            NEW,
            sent(webhook_signature=f"v2,AA v1,?? {sent()['webhook-signature']}"),
            body,
        ),
    }
    refused = {
        "another secret": (OTHER, sent(), body),
        "a changed body": (NEW, sent(), body.replace("deletion", "export")),
        "another id": (NEW, sent(webhook_id="another"), body),
        "a changed timestamp": (NEW, sent(webhook_timestamp=str(now - 1)), body),
        "too old": (NEW, sent(now - 310), body),
        "too far ahead": (NEW, sent(now + 360), body),
        "no number": (NEW, sent("now"), body),
        "no Base64": (NEW, sent(webhook_signature="v1,?? v1, v1"), body),
        "another version": (NEW, sent(webhook_signature=sent()["webhook-signature"].replace("v1,", "v2,")), body),
        "no signature": (NEW, {name: value for name, value in sent().items() if name != "webhook-signature"}, body),
        "a secret that is empty": ("whsec_", sent(), body),
        "a secret that is missing": (None, sent(), body),
    }

    said = node(_VERIFIES, [*accepted.values(), *refused.values()])

    answers = dict(zip([*accepted, *refused], said, strict=True))
    assert {case for case, both in answers.items() if both == ["request.completed"] * 2} == accepted.keys()
    assert {case for case, both in answers.items() if both == [None, None]} == refused.keys()


_SIGNS = """
import { Webhook } from "standardwebhooks";
const { id, body, secrets } = given;
const headersOf = (at) => new Headers({
  "webhook-id": id,
  "webhook-timestamp": String(Math.floor(at / 1000)),
  "webhook-signature": new Webhook(secrets[0]).sign(id, new Date(at), body),
});
const fits = (...call) => client.verifyCallback(...call).then((event) => event.callback_id, () => null);
const [now, old] = [headersOf(Date.now()), headersOf(Date.now() - 400_000)];
said = [
  await fits(secrets, now, body),
  await fits(secrets.toReversed(), now, new TextEncoder().encode(body)),
  await fits(secrets[0], old, body, { tolerance: 500 }),
  await fits(secrets[1], now, body),
  await fits([], now, body),
  await fits(secrets[0], old, body),
  await fits(secrets[0], headersOf(Date.now() - 40_000), body, { tolerance: 30 }),
]
"""


def test_it_accepts_what_another_implementation_signs_by_one_of_its_secrets() -> None:
    said = node(_SIGNS, {"id": str(ID), "body": EVENTS[0], "secrets": [NEW, OTHER]})

    assert said == [str(ID)] * 3 + [None] * 4


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project that has the package in `node_modules/`, as `make typescript` makes it."""
    folder: Path = tmp_path_factory.mktemp("project")
    given = [f"BIN={Path(sys.executable).parent}", f"TYPESCRIPT={folder / 'made'}"]
    # What the target needs is there, and is not looked up on the network.
    argv = ["make", "--old-file=.venv/.ready-for-requirements-dev", "--old-file=npm", "typescript", *given]
    environment = os.environ | {"npm_config_update_notifier": "false"}
    done = subprocess.run(argv, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    [package] = (folder / "made").glob("data-compliance-client-*.tgz")
    with tarfile.open(package) as archive:
        archive.extractall(folder / "node_modules", filter="data")
    (folder / "node_modules/package").rename(folder / "node_modules/data-compliance-client")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


@pytest.fixture(scope="module")
def errors(project: Path) -> list[tuple[str, str]]:
    """The compiler's errors, with their files: of the page's program, of the events, and of each with one fault."""
    page = "\n".join(re.findall(r"^```ts\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    events = 'import type { CallbackEvent } from "data-compliance-client";\n'
    events += "".join(f"export const event{number}: CallbackEvent = {one};\n" for number, one in enumerate(EVENTS))
    programs = {
        "page.ts": page,
        "events.ts": events,
        "misspelt.ts": page.replace("identifier_value: memberId", "identifier_valeu: memberId", 1),
        "incomplete.ts": events.replace('"chatbot": "acme",', "", 1),
    }
    for name, text in programs.items():
        (project / name).write_text(text)
    options = ["--strict", "--noUncheckedIndexedAccess", "--module", "nodenext", "--target", "es2022"]
    argv = [NODE or "", str(ROOT / "node_modules/typescript/bin/tsc"), *options, "--pretty", "false", *programs]
    done = subprocess.run(argv, cwd=project, check=False, capture_output=True, text=True, timeout=240)
    return re.findall(r"^([^\s(]+)\S* (.+)", done.stdout, re.MULTILINE)


@pytest.mark.long(reason="generates and compiles the types")
def test_a_program_compiles_and_none_that_misspells_or_lacks_a_field(errors: list[tuple[str, str]]) -> None:
    [(misspelt, unknown), (incomplete, missing)] = sorted(errors, reverse=True)

    assert (misspelt, incomplete) == ("misspelt.ts", "incomplete.ts")
    assert "'unique_chatter_identifier_valeu' does not exist in type 'ExportBody'" in unknown
    assert "Property 'chatbot' is missing in type" in missing


_CALLS = """
const page = await import(given.page);
const answer = (promise) => promise.then(({ kind, status }) => `${kind} ${status}`, ({ message }) => message);
said = [await answer(page.fileExport(given.token, "m-77")), await answer(page.fileDeletion(given.secret, "m-77"))];
const { fetch } = globalThis;
globalThis.fetch = (url, call) => fetch(url, { ...call, body: call.body.replace("m-77", "m-78") });
said.push(await answer(page.fileDeletion(given.secret, "m-77")));
"""


@pytest.mark.long(reason="generates and compiles the types, and starts a web server")
@pytest.mark.usefixtures("errors")
def test_the_program_of_the_page_files_with_a_token_and_with_a_signature(project: Path, chatbot: Chatbot) -> None:
    given = {"secret": SigningCaller(chatbot).secret, "token": TokenCaller(chatbot).token}

    with web_server() as server:
        program = (project / "page.js").read_text()
        here = program.replace("https://compliance.example.com", f"http://127.0.0.1:{server.port}")
        (project / "here.js").write_text(here)
        said = node(_CALLS, given | {"page": str(project / "here.js")})

    assert said == ["export accepted", "deletion accepted", "invalid_signature"]
    assert ComplianceRequest.objects.count() == 2
