"""The demo's client as a server that identifies sessions, and the chapter in which a worker calls it."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from conversations.models import Conversation, Identity
from scripts.demo_chapters import Scene
from scripts.demo_conversations import NADIA, SESSION, UCI, Document
from scripts.demo_story import require

# A worker checks every 5 seconds whether look-ups are due.
PATIENCE = 60.0


class ClientsServer:
    """Answers identity look-ups that are signed with `secret`; `refused` counts all others."""

    def __init__(self, secret: str) -> None:
        self.answered = 0
        self.refused = 0
        self.port = 0
        self._key = base64.b64decode(secret.removeprefix("whsec_"))

    def is_genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Verify a call as specified by Standard Webhooks."""
        timestamp = headers["webhook-timestamp"]
        signed = f"{headers['webhook-id']}.{timestamp}.".encode() + body
        expected = f"v1,{base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()}"
        is_recent = abs(time.time() - int(timestamp)) < 300
        return is_recent and expected in headers["webhook-signature"].split()


@contextmanager
def answering(secret: str) -> Iterator[ClientsServer]:
    """Run the server on a port of this machine."""
    clients = ClientsServer(secret)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not clients.is_genuine(dict(self.headers.items()), body):
                clients.refused += 1
                self.send_error(401)
                return
            clients.answered += 1
            is_hers = json.loads(body)["variables"] == {"session": SESSION}
            answer = json.dumps({"value": NADIA if is_hers else None}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its own name
            """Log nothing: the demo's output is a story."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        clients.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield clients
        finally:
            server.shutdown()


def look_up(scene: Scene, clients: ClientsServer, document: Document) -> None:
    answer = scene.client.post("conversations", document)
    require(answer.body["results"][0]["outcome"] == "created", "A conversation with a session alone was not stored.")
    number = answer.body["results"][0]["number"]
    began = time.monotonic()
    while not Identity.objects.filter(conversation=number).exists():
        require(time.monotonic() < began + PATIENCE, "No worker called the client's server about the session.")
        time.sleep(0.1)
    found = Identity.objects.get(conversation=number)
    require((found.value, found.established_by) == (NADIA, "resolved"), "The session was assigned to another person.")
    require((clients.answered, clients.refused) == (1, 0), "The client's server did not get exactly one signed call.")
    scene.documents.append(document | {"custom_variables": {UCI: NADIA}})
    scene.numbers[document["id"]] = number
    require(Conversation.objects.count() == len(scene.documents), "Not every conversation has a row of its own.")
    ways = [one["established_by"] for one in _identities(scene)]
    require(sorted(set(ways)) == ["custom", "resolved"], "The log does not tell a verified identity from the others.")
    scene.story.fact(
        "A conversation came with nothing but a session of the web shop; a worker asked the client's server, with a "
        f"signed call, whose it is ({time.monotonic() - began:.0f} s later): Nadia's, and verified"
    )


def _identities(scene: Scene) -> list[dict[str, str]]:
    log = scene.client.get("conversations").body["results"]
    return [identity for entry in log for identity in entry["unique_chatter_identifiers"]]
