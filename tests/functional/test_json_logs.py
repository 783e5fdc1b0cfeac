"""With LOG_FORMAT=json each process writes JSON lines alone. Workers do so in `test_nothing_personal.py`."""

import http.client
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chatbots.models import ApiKey, Chatbot
from scripts.processes import Processes, free_port, wait_for_http, web_command
from tests.calls import SigningCaller
from tests.functional.support import ROOT, manage, worker_environment


def environment(**more: str) -> dict[str, str]:
    return worker_environment() | {"LOG_FORMAT": "json", "SECURE_SSL_REDIRECT": "false", **more}


def lines(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in found)
    return found


@pytest.mark.long(reason="a web server is started and stopped")
def test_the_web_server_writes_json_lines_from_start_to_end(chatbot: Chatbot, tmp_path: Path) -> None:
    caller = SigningCaller(chatbot)
    ApiKey.objects.update(secret_encrypted=b"sealed with a key that is lost")
    log, port = tmp_path / "web.log", free_port()
    with Processes() as processes:
        argv, env = web_command(), environment(WEB_BIND=f"127.0.0.1:{port}")
        processes.start("web", argv, env=env, log=log, cwd=ROOT)
        wait_for_http(f"http://127.0.0.1:{port}/healthz")
        call = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {"Host": "localhost", "X-Request-ID": "id-of-the-call", **caller.credentials(b"{}")}
        call.request("POST", "/api/v1/chatbots/acme/data-export", b"{}", headers)
        answer = call.getresponse()
        call.close()

    messages = lines(log.read_text())

    assert {"gunicorn.error", "chatbots.authentication"} <= {line["logger"] for line in messages}
    [ours] = [line for line in messages if line["logger"] == "chatbots.authentication"]
    assert answer.status == 503
    assert ours["request_id"] == answer.headers["X-Trace-ID"] != "id-of-the-call"
    assert ours["error"].startswith("  File ")


def test_a_web_server_that_cannot_start_names_the_bad_setting(tmp_path: Path) -> None:
    wrong = environment(RATE_LIMIT_PER_MINUTE="5813 each", WEB_BIND=f"unix:{tmp_path}/web")

    done = subprocess.run(web_command(), check=False, env=wrong, cwd=ROOT, capture_output=True, text=True, timeout=60)

    result, which = done.stderr.splitlines()
    assert (done.returncode, result) == (1, "These settings are missing or wrong (see docs/operating.md):")
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
