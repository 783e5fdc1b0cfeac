"""The samples of docs/api.md that verify a callback, run in each language on real deliveries."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from chatbots.models import Chatbot
from chatbots.operations.keys import create_callback_secret
from compliance.callbacks.dispatcher import RECEIVERS, deliver
from compliance.requests import decisions
from tests.factories import deletion_of
from tests.receivers import Received, receiving

pytestmark = pytest.mark.django_db

NODE = shutil.which("node")

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
_LANGUAGES = [
    "python",
    "sh",
    pytest.param("js", marks=pytest.mark.skipif(NODE is None, reason="node is missing: the sample is not run")),
]


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
def test_the_sample_accepts_a_callback_by_either_secret_only(
    language: str, secrets: list[str], received: Received, tmp_path: Path
) -> None:
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
    text = (Path(settings.BASE_DIR) / "docs/api.md").read_text()
    [sample] = re.findall(rf"```{language}\n((?:(?!```).)*is_?genuine.*?)```", text, re.DOTALL | re.IGNORECASE)
    suffix, program, call = _PROGRAMS[language]
    source = folder / f"sample.{suffix}"
    source.write_text(f"{sample}{call}")
    return [program, str(source)]
