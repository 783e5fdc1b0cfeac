"""The demo's client as a server that identifies sessions, and the chapter in which a worker calls it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import data_compliance_client as package
from conversations.models import Conversation, Identity
from scripts.demo_chapters import Scene
from scripts.demo_conversations import NADIA, SESSION, UCI, Document
from scripts.demo_story import require

# A worker checks every 5 seconds whether look-ups are due.
PATIENCE = 60.0


class ClientsServer:
    """Counts the identity look-ups that are signed, and all others as `refused`."""

    def __init__(self) -> None:
        self.answered = 0
        self.refused = 0
        self.port = 0


@contextmanager
def answering(secret: str) -> Iterator[ClientsServer]:
    """Run the server on a port of this machine."""
    clients = ClientsServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                package.verify_signature(body, dict(self.headers.items()), secret)
            except package.InvalidCallback:
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
    [stored] = scene.client.send([document])
    require(stored.outcome == "created", "A conversation with a session alone was not stored.")
    number = stored.number or 0
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
    return [identity for entry in scene.client.conversations() for identity in entry["unique_chatter_identifiers"]]
