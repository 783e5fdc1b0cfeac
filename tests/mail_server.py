"""A real mail server on this machine that keeps what it gets, or refuses."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class MailServer:
    """`refuses` are addresses that it does not know; a `silent` one takes connections and says nothing."""

    refuses: set[str] = field(default_factory=set)
    silent: bool = False
    mails: list[EmailMessage] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]


@contextmanager
def mail_server() -> Iterator[MailServer]:
    kept = MailServer()
    over = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            kept.connections += 1
            if kept.silent:
                over.wait()
                return
            self._say("220 test")
            while line := self.rfile.readline().decode().strip():
                self._answer(line)

        def _answer(self, line: str) -> None:
            match line.upper().partition(":")[0].split()[0]:
                case "RCPT" if any(address in line for address in kept.refuses):
                    self._say("550 no such mailbox: " + line)
                case "DATA":
                    self._say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    text = b"".join(line.removeprefix(b".") if line.startswith(b"..") else line for line in lines)
                    kept.mails.append(message_from_bytes(text, policy=policy.default))
                    self._say("250 kept")
                case "QUIT":
                    self._say("221 bye")
                case _:
                    self._say("250 well")

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        kept.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            over.set()
            server.shutdown()
            thread.join()
