"""The command `dca`: called in this process, and as a program where a shell or a terminal matters."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from compliance.models import ComplianceRequest
from conversations.models import Conversation, Identity
from data_compliance_client.commands import main
from tests.calls import TokenCaller
from tests.client.test_callbacks import BODY, SECRET, theirs
from tests.conversations.documents import document
from tests.factories import NOON, conversation_of, deletion_of

DCA = Path(sys.executable).parent / "dca"
# There nothing ignores Ctrl+C, as tests that run in the background can.
_IN_A_TERMINAL = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from data_compliance_client.commands import main; main()"
)


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def environment(live_server: Any, chatbot: Any, storage: Any, tmp_path: Path) -> dict[str, str]:
    token = str(TokenCaller(chatbot).token)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "DCA_URL": live_server.url,
        "DCA_CHATBOT": chatbot.slug,
        "DCA_TOKEN": token,
        "DCA_KEY": "member_id",
        "DCA_PATIENCE": "20",
    }


@pytest.fixture
def dca(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Return a function that calls the command with these words and this input, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, given: str | bytes = b"", **settings: str) -> Done:
        done = CliRunner().invoke(main, words, input=given, env=environment | settings, catch_exceptions=False)
        return Done(done.exit_code, done.stdout, done.stderr)

    return run


def ids_of(kind: str) -> list[str]:
    return [str(one.pk) for one in ComplianceRequest.objects.filter(kind=kind).order_by("received_at")]


def test_a_chatter_is_deleted(dca, chatbot, working) -> None:
    conversation_of(chatbot, "m-77")
    done = dca("delete", "--reference", "T-7", "--wait", "--timeout", "60", given="m-77\n")
    [request] = ids_of("deletion")
    assert (done.code, done.out.splitlines()[0]) == (0, f"{request} deletion completed (done)")
    assert "conversations 1" in done.out
    assert dca("status", request).out == done.out
    assert json.loads(dca("wait", request, "--json").out)["reference"] == "T-7"


def test_an_export_is_downloaded(dca, chatbot, tmp_path, working) -> None:
    conversation_of(chatbot, "m-77")
    (tmp_path / "value").write_text("m-77")
    done = dca("export", "--value", "value", "--output", "m-77.csv", "--csv-dialect", "excel_comma")
    assert done.code == 0, done.err
    assert (tmp_path / "m-77.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert "right SHA-256" in done.err
    done = dca("export", "--format", "html", "--format", "json", "--output", "folder", given="m-77")
    assert (tmp_path / "folder" / "index.html").exists()
    request = ids_of("export")[-1]
    assert dca("download", request, "--file", "page-1.html", "--output", "page.html").code == 0
    assert (tmp_path / "page.html").exists()
    assert dca("download", request, "--file", "page-9.html", "--output", "page.html").code == 1
    assert dca("export", "--zip", "--format", "html", "--output", "m-77.zip", given="m-77").code == 0
    assert (tmp_path / "m-77.zip").read_bytes().startswith(b"PK")


def test_a_preview_files_nothing(dca, chatbot) -> None:
    conversation_of(chatbot, "m-77")
    done = dca("delete", "--preview", given="m-77")
    assert json.loads(done.out)["deletion"]["erased"]["conversations"] == 1
    assert ids_of("deletion") == []


def test_one_request_for_each_line(dca) -> None:
    done = dca("delete", "--each-line", "--idempotency-key", "night", given="m-1\r\n\nnull\nm-3")
    assert done.code == 1
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["1", ids_of("deletion")[0]],
        ["3", "refused:"],
        ["4", ids_of("deletion")[1]],
    ]
    again = dca("delete", "--each-line", "--idempotency-key", "night", "--json", given="m-1\nnull\nm-3")
    told = [json.loads(line) for line in again.out.splitlines()]
    assert [one.get("request_id") for one in told] == [ids_of("deletion")[0], None, ids_of("deletion")[1]]


def test_each_line_is_for_filing_values_alone(dca) -> None:
    """A preview that files would erase a list of chatters."""
    for words in [["--preview"], ["--wait"], ["--conversation-ids", "-"]]:
        assert dca("delete", "--each-line", *words, given="m-1\nm-2\n").code == 2
        assert dca("export", "--each-line", "--output", "folder", given="m-1\nm-2\n").code == 2
        assert not ComplianceRequest.objects.exists()


def test_conversations_are_deleted_by_their_ids(dca, chatbot) -> None:
    done = dca("delete", "--conversation-ids", "-", "--erase-exports", "--json", given="c-1\nc-2\n")
    assert json.loads(done.out)["selector"] == "conversations"


def test_conversations_are_imported_and_identified(dca, tmp_path) -> None:
    lines = [document("c-1", custom_variables={}), document("c-2", channel="pigeon"), document("c-3")]
    (tmp_path / "file.jsonl").write_text("\n".join(json.dumps(one) for one in lines))
    done = dca("import", "file.jsonl")
    assert (done.code, done.out) == (1, "2 created, 1 refused\n")
    assert done.err.startswith("Line 2 is refused: invalid: /channel: Must be")
    assert Conversation.objects.count() == 2
    done = dca("identify", "--json", given='{"id": "c-1", "value": "m-77"}\n{"id": "c-9", "value": "m-77"}')
    assert [json.loads(line)["outcome"] for line in done.out.splitlines()] == ["created", "refused"]
    assert Identity.objects.filter(value="m-77").count() == 1
    assert dca("identify", given="m-77").code == 2
    assert "is refused: invalid: Must be one well-formed JSON object" in dca("import", given="m-77").err


def test_the_end_of_the_command_tells_the_state(dca, chatbot, tmp_path) -> None:
    held = deletion_of(chatbot, "m-1", status="on_hold", hold_reason="awaiting_approval", held_at=NOON)
    failed = deletion_of(chatbot, "m-2", status="failed", failed_at=NOON, error_code="worker_lost")
    assert dca("wait", str(held.pk)).code == 3
    assert dca("wait", str(failed.pk)).code == 1
    assert dca("delete", "--wait", "--timeout", "0.1", given="m-3").code == 3
    refused = dca("delete", "--key", "member", given="m-77")
    assert refused.code == 4
    assert "unknown_uci_key" in refused.err
    assert "Send the variable's name exactly." in refused.err
    assert "trace_id" in refused.err
    gone = dca("delete", given="m-77", DCA_URL="http://127.0.0.1:9", DCA_PATIENCE="0")
    assert gone.code == 5
    assert "--idempotency-key" in gone.err


@pytest.mark.parametrize("words", [("delete",), ("export", "--each-line")])
def test_an_interrupted_command_tells_the_key_to_call_again_with(environment, words) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = environment | {"DCA_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        filing = subprocess.Popen(
            [sys.executable, "-c", _IN_A_TERMINAL, *words],
            env=settings,
            text=True,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with filing:
            assert filing.stdin
            filing.stdin.write("m-77\n")
            filing.stdin.close()
            silent.settimeout(60)
            call, _ = silent.accept()
            with call:
                filing.send_signal(signal.SIGINT)
                assert filing.stderr
                told = filing.stderr.read()
    assert filing.returncode == 1
    assert re.search(r"call again, use --idempotency-key [0-9a-f-]{36}\n", told), told
    assert "m-77" not in told


def test_a_value_is_never_an_argument(dca) -> None:
    done = dca("delete", "--value", "m-77")
    assert done.code == 2
    assert "standard input" in done.err
    assert "m-77" not in done.err
    assert dca("delete", "m-77").code == 2
    assert dca("delete", given=b"\xff").code == 2
    assert ids_of("deletion") == []


def test_a_value_is_what_an_editor_shows(dca) -> None:
    """With the mark that Windows puts before UTF-8, or with the lines of several chatters, nothing would be found."""
    given = b"\xef\xbb\xbfm-77\r\n"
    key = ["--idempotency-key", "k"]
    assert dca("delete", *key, given=given).out.split()[0] == dca("delete", *key, given="m-77").out.split()[0]
    assert dca("delete", "--each-line", given=given).code == 0
    assert dca("delete", given="m-78\nm-79\n").code == 2
    assert dca("delete", given="m-78".encode("utf-16")).code == 2
    assert dca("delete", given="m-78".encode("utf-16-le")).code == 4
    assert len(ids_of("deletion")) == 2


def test_a_line_is_told_by_its_number_in_the_file(dca) -> None:
    told = dca("delete", "--each-line", given="m-1\n\n  \nnull\nm-3\n").out.splitlines()
    assert [line.split()[0] for line in told] == ["1", "4", "5"]


def test_what_this_machine_refuses_is_told_in_a_line(dca, chatbot, tmp_path, environment, working) -> None:
    conversation_of(chatbot, "m-77")
    done = dca("export", "--output", "nowhere/m.csv", given="m-77")
    assert (done.code, done.err.splitlines()[-1].split(":")[0]) == (1, "Error")
    closed = subprocess.run(  # noqa: S602
        f"{DCA} delete <&-", shell=True, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (closed.returncode, "Traceback" in closed.stderr) == (2, False)


def test_on_a_terminal_it_asks_for_the_value(environment, tmp_path) -> None:
    here, there = pty.openpty()
    with subprocess.Popen([str(DCA), "delete", "--json"], env=environment, stdin=there, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, cwd=tmp_path) as running:  # fmt: skip
        os.write(here, b"m-77\n")
        out, err = running.communicate(timeout=60)
    os.close(here)
    os.close(there)
    assert b"Value of member_id" in err
    assert json.loads(out)["status"] == "accepted"


class TestSettings:
    def written(self, tmp_path: Path, text: str, mode: int = 0o600) -> str:
        path = tmp_path / "dca.toml"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def test_a_file_has_them(self, environment, tmp_path) -> None:
        words = {"url": "DCA_URL", "chatbot": "DCA_CHATBOT", "token": "DCA_TOKEN"}
        text = "".join(f'{name} = "{environment.pop(variable)}"\n' for name, variable in words.items())
        folder = tmp_path / ".config" / "dca"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(text)
        (folder / "config.toml").chmod(0o600)
        done = CliRunner().invoke(main, ["keys", "check"], env=environment)
        assert done.exit_code == 0, done.stderr

    def test_what_is_wrong_is_told_without_a_secret(self, tmp_path) -> None:
        for text, mode, told in [
            ('url = "https://x.example"', 0o640, "chmod 600"),
            ("url: https://hidden.example", 0o600, "is not TOML"),
            ('adress = "https://hidden.example"', 0o600, "unknown setting adress"),
            ('url = "http://x.example"\nchatbot = "acme"\ntoken = "t"', 0o600, "HTTPS"),
            ('url = "https://x.example"', 0o600, "Set chatbot"),
        ]:
            words = ["--config", self.written(tmp_path, text, mode), "status", "x"]
            done = CliRunner().invoke(main, words, env={"HOME": str(tmp_path)})
            assert done.exit_code == 2
            assert told in done.stderr
            assert "hidden" not in done.stderr

    def test_a_missing_file_or_key_is_told(self, dca) -> None:
        assert "no file" in dca("--config", "nowhere", "status", "x").err
        assert "--key" in dca("delete", given="m-77", DCA_KEY="").err


def test_keys_are_checked_without_any_change(dca, chatbot, signing_secret) -> None:
    token = str(TokenCaller(chatbot, ["requests:read", "deletions:write"]).token)
    done = dca("keys", "check", "--json", DCA_TOKEN=token, DCA_SIGNING_SECRET=signing_secret)
    found = json.loads(done.out)
    assert {scope for scope, is_allowed in found["token"].items() if is_allowed} == {
        "requests:read",
        "deletions:write",
    }
    assert found["signing key"] == {"deletions:write": True, "exports:write": True}
    all_of_them = dca("keys", "check")
    assert "  no" not in all_of_them.out
    assert all_of_them.out.count("  yes ") == len(found["token"])
    assert not ComplianceRequest.objects.exists()
    assert not Conversation.objects.exists()
    assert dca("keys", "check", DCA_TOKEN="wrong").code == 4
    assert dca("keys", "check", DCA_CHATBOT="another").code == 4


def test_a_callback_is_verified(dca, tmp_path) -> None:
    (tmp_path / "body").write_bytes(BODY)
    headers = theirs()
    words = ["--id", headers["Webhook-Id"], "--timestamp", headers["Webhook-Timestamp"]]
    words += ["--signature", headers["Webhook-Signature"]]
    assert (
        dca("verify-callback", "body", *words, DCA_CALLBACK_SECRET=f"whsec_AAAA {SECRET}").out
        == "request.completed r-1\n"
    )
    assert dca("verify-callback", *words, given=BODY + b" ", DCA_CALLBACK_SECRET=SECRET).code == 1
    assert dca("verify-callback", "body", *words, DCA_CALLBACK_SECRET="none!").code == 2
    assert dca("verify-callback", "body", *words).code == 2


def test_shells_complete_it(dca, environment) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert f"_DCA_COMPLETE={shell}_complete" in dca("completion", shell).out
    words = {"COMP_WORDS": "dca del", "COMP_CWORD": "1", "_DCA_COMPLETE": "bash_complete"}
    done = subprocess.run([str(DCA)], env=environment | words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "plain,delete\n"
