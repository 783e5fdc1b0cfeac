"""Tokens and keys that other programs make: the sample of docs/api.md, openssl and node."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from chatbots.models import ApiKey, Chatbot
from chatbots.operations.identity_keys import create_identity_key
from tests.calls import TokenCaller
from tests.conversations.documents import document
from tests.tokens import claims_of, compact, encoded, private_key, private_pem, public_pem

NODE = shutil.which("node")


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
    text = (Path(settings.BASE_DIR) / "docs/api.md").read_text()
    [sample] = re.findall(
        r"```python\n(.*?def identity_token.*?)```", text.split("### Identity tokens")[1], re.DOTALL
    )
    new = create_identity_key(chatbot=chatbot, label="shop", actor="command")
    names: dict[str, Any] = {}
    exec(sample, names)  # noqa: S102  ours

    token = names["identity_token"](new.secret, new.api_key.prefix, str(chatbot.public_id), "c-1", "42")

    assert stored_as(chatbot, token) == SIGNED


def test_openssl_makes_a_key_and_signs_with_it(chatbot: Chatbot, tmp_path: Path) -> None:
    private = tmp_path / "private.pem"

    def openssl(*words: str, data: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *words], check=True, input=data, capture_output=True).stdout

    private.write_bytes(openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"))
    public = openssl("pkey", "-in", str(private), "-pubout").decode()
    key = create_identity_key(chatbot=chatbot, label="shop", public_key=public, actor="command").api_key

    token = compact(
        {"alg": "RS256", "kid": key.prefix},
        claims_of(chatbot.public_id),
        lambda data: openssl("dgst", "-sha256", "-sign", str(private), data=data),
    )

    assert key.algorithm == ApiKey.Algorithm.RS256
    assert stored_as(chatbot, token) == SIGNED


_NODE = """
const {sign} = require('node:crypto');
const [text, key] = process.argv.slice(1);
console.log(sign('sha256', Buffer.from(text), {key, dsaEncoding: 'ieee-p1363'}).toString('base64url'));
"""


@pytest.mark.skipif(NODE is None, reason="node is missing: no other program signs with ES256")
def test_node_signs_with_a_key(chatbot: Chatbot) -> None:
    private = private_key("ES256")
    public = public_pem(private)
    key = create_identity_key(chatbot=chatbot, label="shop", public_key=public, actor="command").api_key
    signed = f"{encoded({'alg': 'ES256', 'kid': key.prefix})}.{encoded(claims_of(chatbot.public_id))}"

    words = [NODE or "", "-e", _NODE, signed, private_pem(private)]
    made = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    assert stored_as(chatbot, f"{signed}.{made}") == SIGNED
