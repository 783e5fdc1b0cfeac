"""A server that takes every call and answers it with a byte now and then, so that no single read ever times out."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from chatbots.buckets.places import bucket_secret_binding
from chatbots.models import Bucket, Chatbot
from chatbots.secrets import encrypt

_BYTE_EVERY = 0.5


class DrippingServer:
    """Counts the calls in `calls`. It gives none of them up: only whoever calls can."""

    def __init__(self) -> None:
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def stop(self) -> None:
        self._over.set()
        self._socket.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            threading.Thread(target=self._drip, args=[client], daemon=True).start()

    def _drip(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\nX-Drops: ")
            while not self._over.wait(_BYTE_EVERY):
                client.sendall(b".")


@contextmanager
def dripping() -> Iterator[DrippingServer]:
    server = DrippingServer()
    try:
        yield server
    finally:
        server.stop()


def use_dripping_bucket(chatbot: Chatbot, server: DrippingServer) -> None:
    """Let a chatbot's files go to a bucket of the server."""
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting="client",
        bucket=f"bucket-of-{chatbot.slug}",
        region="us-east-1",
        endpoint=server.endpoint,
        access_key_id="key",
        secret_encrypted=encrypt("secret-of-the-key", bound_to=bucket_secret_binding(chatbot.pk)),
    )
