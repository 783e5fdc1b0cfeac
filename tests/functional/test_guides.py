"""The tour of the README, the guides and the pages for clients, run as written, give the results that they say."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chatbots.models import ApiKey
from common.storage import ObjectStorage
from compliance.models import ComplianceRequest
from config.openapi import guide
from conversations.models import Conversation, Identity
from scripts.processes import Processes
from tests.functional.support import ROOT, manage, worker_environment
from tests.functional.web import web_server

pytestmark = pytest.mark.long(reason="starts dozens of programs, one after the other, and waits for look-ups")

README = (ROOT / "README.md").read_text()
GUIDES = ROOT / "docs" / "staff"
# Pages for clients that are run by themselves, with servers of the client.
OF_IDENTITIES = ("identify-chatters", "assert-who-chatted", "identity-tokens", "answer-who-chatted")
IDENTITIES = "".join((ROOT / "docs" / guide.files()[name]).read_text() for name in OF_IDENTITIES)
# What a reader of the other guides puts in, and the variable of the script that has it.
READERS = {
    "'<the secret of the token>'": '"$TOKEN_MADE"',
    "'<the secret of the signing key>'": '"$SECRET_MADE"',
    "'<request_id of the answer>'": '"$REQUEST_FILED"',
}
_FILED = r"""REQUEST_FILED=$(sed -n 's/.*"request_id":"\([^"]*\)".*/\1/p' said)"""
PRIVATE = {"CALLBACK_PRIVATE_NETWORKS": "127.0.0.0/8"}
NODE = shutil.which("node")
THE_TOKEN = "the secret of the token"
NOW = "$(date -u +%Y-%m-%dT%H:%M:%SZ)"

# Each is called with secret, kid, aud and value, and prints the token.
PROGRAMS = {
    "python": ([sys.executable, "-c"], "\nimport sys; print(identity_token(*sys.argv[1:]))"),
    "sh": (["bash", "-c"], '\nidentity_token "$@"'),
    "js": ([NODE or "node", "--input-type=module", "-e"], "\nconsole.log(identityToken(...process.argv.slice(1)));"),
}


def blocks(text: str, language: str = "sh") -> list[str]:
    """Return the blocks of a document, without those that are marked as not run."""
    return re.findall(rf"^```{language}\n((?:(?!^```).*\n)*)^```\n(?!<!-- not run: )", text, re.MULTILINE)


def block_with(language: str, text: str) -> str:
    [found] = [block for block in blocks(IDENTITIES, language) if text in block]
    return found


class Reader:
    """Follows a document in a shell, on a service of this test."""

    def __init__(self, port: int, folder: Path) -> None:
        self._origin = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._environment = worker_environment(role=connection.settings_dict["USER"]) | PRIVATE

    def run(self, script: str, filled_in: Mapping[str, str] | None = None) -> str:
        """Run a script, with what a reader fills in for `'<...>'`; return what it prints."""
        for written, made in (filled_in or {}).items():
            assert f"'<{written}>'" in script
            script = script.replace(f"'<{written}>'", f"'{made}'")
        for address in ("https://compliance.example.com", "http://127.0.0.1:8000"):
            script = script.replace(address, self._origin)
        script = script.replace(".venv/bin/dca", str(Path(sys.executable).parent / "dca"))
        script = script.replace(".venv/bin/python", sys.executable).replace(" manage.py", f" {ROOT / 'manage.py'}")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._folder,
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout[-600:] + done.stderr
        return done.stdout

    def send(self, token: str, conversation_id: str, **fields: Any) -> None:
        """Send a conversation as the platform does."""
        document = {"id": conversation_id, "channel": "widget", **fields}
        body = json.dumps(document)[:-1] + f', "started_at": "\'{NOW}\'"}}'
        said = self.run(
            f"curl -sS {self._origin}/api/v1/chatbots/acme/conversations -H 'Authorization: Bearer {token}'"
            f" -H 'Content-Type: application/json' -d '{body}'"
        )
        assert json.loads(said)["results"][0]["outcome"] == "created", said


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """Yield a reader of a service with its web server and its workers."""
    with Processes() as processes, web_server(**PRIVATE) as server:
        processes.start("worker", manage("qcluster"), env=worker_environment() | PRIVATE)
        yield Reader(server.port, folder)


def answers_in(printed: str) -> list[dict[str, Any]]:
    """Return the JSON objects at the beginnings of lines; one can follow another directly."""
    answers = []
    for line in printed.splitlines():
        rest = line
        while rest.startswith("{"):
            answer, end = json.JSONDecoder().raw_decode(rest)
            answers.append(answer)
            rest = rest[end:]
    return answers


def test_the_readmes_tour_works(storage: ObjectStorage, tmp_path: Path) -> None:
    tour, with_dca = (block for block in blocks(README) if block.startswith(("manage()", "export DCA_URL")))
    with reading(tmp_path) as reader:
        # Waits for a busy machine, and is no part of what is promised.
        printed, _, with_dca_printed = reader.run(
            f"{tour.replace('sleep 2', 'sleep 10')}\necho '# with dca'\n{with_dca}"
        ).partition("# with dca\n")

    assert re.search(r"deletion completed \(done\)\n  conversations 1, messages 1, identities 1", with_dca_printed)
    assert "Thank you!" in (tmp_path / "43.csv").read_text()
    answers = answers_in(printed)
    assert [(each["kind"], each["status"], each["result"]) for each in answers] == [
        ("export", "completed", "done"),
        ("deletion", "completed", "done"),
    ]
    counts = answers[1]["counts"]
    assert (counts["conversations"], counts["messages"], counts["identities"]) == (1, 2, 1)
    [last] = re.findall(r"^The last line prints `(.+?)`", README, re.MULTILINE)
    assert printed.splitlines()[-1] == last


def steps(*names: str) -> Iterator[str]:
    """Yield what a reader of the guides types, with what was shown in place of what is to be filled in."""
    for block in (block for name in names for block in blocks((GUIDES / f"{name}.md").read_text())):
        if "AKIAEXAMPLE" in block:
            continue  # a bucket at AWS
        if "--type" in block:
            name = "TOKEN_MADE" if "--type token" in block else "SECRET_MADE"
            yield f"{name}=$({block.rstrip()} | tail -n 1)"
        elif "data-deletion" in block:
            yield f"{{ {block}\n}} > said; cat said; echo\n{_FILED}; sleep 10"
        else:
            yield f"{block.rstrip()}\necho"


def test_the_guides_work_as_written(storage: ObjectStorage, tmp_path: Path) -> None:
    script = "\n".join(steps("data-compliance", "identities", "daily-extracts", "retention"))
    for written, made in READERS.items():
        assert written in script
        script = script.replace(written, made)
    # The second guide's token.
    script = script.replace("--scope conversations:write", "--scope conversations:write --scope conversations:read")
    with reading(tmp_path) as reader:
        printed = reader.run(script)

    assert "The first run, 24 hours after you set this, erases 0 conversations" in printed
    assert "acme: 0 conversations are due" in printed
    stored, filed, deleted, listed, exported = answers_in(printed)
    assert [one["outcome"] for one in stored["results"]] == ["created"]
    assert (filed["kind"], filed["status"]) == ("deletion", "accepted")
    assert (deleted["request_id"], deleted["status"], deleted["result"]) == (filed["request_id"], "completed", "done")
    assert deleted["counts"]["conversations"] == 1
    days = {one["day"]: one for one in listed["extracts"]}
    assert days["2026-11-23"]["state"] == "done"
    file = (tmp_path / "extract.csv").read_bytes()
    assert file.startswith(b'"conversation_id",')
    assert len(file) == days["2026-11-23"]["bytes"]
    assert (exported["kind"], exported["status"]) == ("export", "accepted")
    kinds = ComplianceRequest.objects.order_by("seq").values_list("kind", flat=True)
    assert list(kinds) == ["deletion", "export", "retention"]


# Before a page, what it needs; and after it.
_AROUND = {
    "decide-on-a-request": tuple(f"manage set_chatbot acme --grace-minutes {minutes}" for minutes in (15, 0)),
    "send-a-file": ("echo picture > photo.jpg", ""),
}


def clients_steps() -> Iterator[str]:
    """Yield the input of a client's developer who follows all pages. A refused call ends the script."""
    yield 'manage() { .venv/bin/python manage.py "$@"; }; curl() { command curl --fail-with-body "$@"; }'
    yield f'export HOME="$PWD" PATH="{Path(sys.executable).parent}:$PATH"'
    for name, path in guide.files().items():
        if name not in OF_IDENTITIES:
            before, after = _AROUND.get(name, ("", ""))
            yield before
            yield from (f"echo '# {name}'\n{block}\necho" for block in blocks((ROOT / "docs" / path).read_text()))
            yield after


def test_the_pages_for_clients_work_as_written(storage: ObjectStorage, tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        prefix = ".venv/bin/python manage.py"
        reader.run(
            f"{prefix} create_chatbot acme --name Acme --variable custom:member_id --variable user_channel:plan"
            " --uci member_id --enable-compliance --hosted-bucket"
        )
        scopes = " ".join(f"--scope {scope}" for scope in ApiKey.Scope if scope != ApiKey.Scope.IDENTITIES_WRITE)
        token = reader.run(f"{prefix} create_api_key acme --type token --label T {scopes}").split()[-1]
        secret = reader.run(f"{prefix} create_api_key acme --type signing --label S").split()[-1]
        reader.run(f"{prefix} set_chatbot acme --callback-url http://127.0.0.1:9/callbacks")
        script = "\n".join(clients_steps())
        printed = reader.run(script, {"your token": token, "the secret of your signing key": secret})

    said: dict[str, list[dict[str, Any]]] = {}
    for part in re.split(r"^# ", printed, flags=re.MULTILINE):
        name, _, rest = part.partition("\n")
        if name != "use-the-command-line":  # what is printed is for people
            said.setdefault(name, []).extend(answers_in(rest))
    assert [one.get("kind") for one in said["file-a-request"]] == [None, "export", "deletion"]
    export = said["follow-a-request"][-1]
    assert (export["status"], export["result"], export["counts"]["messages"]) == ("completed", "done", 1)
    assert f"{export['export']['sha256']}  export.csv" in printed
    assert [one.get("code") for one in said["file-many-requests"][0]["results"]] == [None] * 3
    assert [bool(one.get("error")) for one in said["file-many-requests"][0]["results"]] == [False, False, True]
    assert said["decide-on-a-request"][-1]["status"] == "cancelled"
    assert {one["request_id"] for one in said["find-requests"][-1]["results"]} >= {export["request_id"]}
    first, second = said["handle-errors"]
    assert first["request_id"] == second["request_id"]
    assert said["sign-a-call"][0]["status"] == "accepted"
    assert said["send-conversations"][0]["results"][0]["outcome"] == "created"
    assert said["read-conversations"][2]["results"][0]["files"][0]["name"] == "photo.jpg"
    assert said["redact-messages"][0]["kind"] == "redaction"
    changes = [one["id"] for one in said["follow-the-change-log"]]
    assert changes[:6] == sorted(set(changes[:6]))
    assert said["hold-data"][1]["state"] == said["hold-data"][2]["results"][0]["state"] == "in_force"


@contextmanager
def clients_server(secret: str) -> Iterator[int]:
    """Run the guide's receiver, and yield its port."""
    program: dict[str, Any] = {}
    exec(block_with("python", "class Receiver"), program)  # noqa: S102  it is what the guide gives to be run
    program["Receiver"].secret = secret
    with HTTPServer(("127.0.0.1", 0), program["Receiver"]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def established(conversation_id: str) -> tuple[str | None, str] | None:
    found = Identity.objects.filter(conversation=Conversation.objects.filter(external_id=conversation_id).first())
    return found.values_list("value", "established_by").first()


def wait_for(conversation_id: str, seconds: float = 90) -> tuple[str | None, str] | None:
    end = time.monotonic() + seconds
    while established(conversation_id) is None and time.monotonic() < end:
        time.sleep(0.2)
    return established(conversation_id)


@pytest.mark.skipif(NODE is None, reason="node is missing: the program in JavaScript is not run")
def test_the_pages_about_identities_work_as_written(storage: ObjectStorage, tmp_path: Path) -> None:
    marks = (
        "--scope identities:write",
        "/identify",
        "--type identity",
        "IDENTITY_TOKEN=",
        "set_resolver",
        "--export-",
    )
    run = [block_with("sh", mark) for mark in marks]
    assert {*run, block_with("sh", "identity_token() {")} == set(blocks(IDENTITIES))
    make_token, identify, make_key, send_signed, set_up, demand = run
    with reading(tmp_path) as reader:
        prefix = ".venv/bin/python manage.py"
        reader.run(
            f"{prefix} create_chatbot acme --name Acme --variable custom:member_id --uci member_id"
            " --enable-compliance --hosted-bucket"
        )
        scopes = "--scope conversations:write --scope exports:write --scope requests:read"
        platform = reader.run(f"{prefix} create_api_key acme --type token --label platform {scopes}").split()[-1]

        reader.send(platform, "guide-identity")
        token = reader.run(make_token).split()[-1]
        said = reader.run(identify, {THE_TOKEN: token})
        assert json.loads(said)["results"][0]["outcome"] == "created"
        assert established("guide-identity") == ("guide-test", "asserted")

        *named, secret = reader.run(make_key).splitlines()
        shown = dict(line.split(": ") for line in named if ": " in line)
        for language, (command, call) in PROGRAMS.items():
            program = block_with(language, "identityToken(" if language == "js" else "identity_token(")
            name = [] if language != "sh" else ["identity_token"]
            words = [*command, program + call, *name, secret, shown["kid"], shown["aud"], f"by-{language}"]
            made = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
            said = reader.run(
                send_signed.replace("guide-signed", f"guide-signed-{language}"),
                {THE_TOKEN: platform, "what identity_token returned": made},
            )
            assert json.loads(said)["results"][0]["outcome"] == "created", (language, said)
            assert established(f"guide-signed-{language}") == (f"by-{language}", "signed")

        callback_secret = reader.run(set_up.splitlines()[0]).split()[-1]
        with clients_server(callback_secret) as port:
            reader.run(
                "\n".join(set_up.splitlines()[1:]).replace("https://shop.example.com", f"http://127.0.0.1:{port}")
            )
            reader.send(platform, "guide-looked-up", user_channel_variables={"session": "a-long-random-session"})
            assert wait_for("guide-looked-up") == ("guide-resolved", "resolved")

        reader.run(demand)
        reader.send(platform, "guide-unverified", custom_variables={"member_id": "guide-test"})
        body = '{"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": "guide-test"}'
        said = reader.run(
            f"curl -sS https://compliance.example.com/api/v1/chatbots/acme/preview -d '{body}'"
            f" -H 'Content-Type: application/json' -H 'Authorization: Bearer {platform}'"
        )
        export = json.loads(said)["export"]
        assert (export["conversations"], export["unverified_left_out"]) == (1, 1)
