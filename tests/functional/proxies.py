"""The proxies of deploy/proxy/ as they are, but for addresses and files, in front of a web server of a test."""

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.processes import Processes, free_port
from tests.functional.support import ROOT
from tests.functional.web import PATIENCE, wait_until_connected

NGINX, CADDY = "nginx", "caddy"


class Proxy:
    """A proxy that speaks HTTPS at `port`."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=self._tls)

    def protocol(self) -> str | None:
        """Return what it speaks with a caller that would rather speak HTTP/2."""
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        tls.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as caller,
            tls.wrap_socket(caller) as wrapped,
        ):
            return wrapped.selected_alpn_protocol()

    def open(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """Return a connection from a loopback address; it has a small buffer for what it does not read."""
        caller = socket.socket()
        caller.settimeout(PATIENCE)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.bind((source, 0))
        caller.connect(("127.0.0.1", self.port))
        return self._tls.wrap_socket(caller)


@contextmanager
def proxy_to(web_port: int, name: str, folder: Path) -> Iterator[Proxy]:
    """Run a proxy in front of a port; `folder` is for its files. Skips the test where it is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: apt-get install --no-install-recommends {name}")
    ports = set[int]()
    while len(ports) < 5:
        ports.add(free_port())
    port, *inner = ports
    argv = _nginx(folder, inner[0], port, web_port) if name == NGINX else _caddy(folder)
    ours = {
        "SITE_ADDRESS": f"https://127.0.0.1:{port}",
        "WEB": f"127.0.0.1:{web_port}",
        **dict(zip(("HTTP_PORT", "SIGNED_PORT", "KNOWN_PORT"), map(str, inner), strict=False)),
        "FILES_ADDRESS": f"http://127.0.0.1:{inner[3]}",
        "HOME": str(folder),
    }
    with Processes() as processes:
        processes.start(name, argv, env={"PATH": os.environ["PATH"], **ours}, log=folder / "log")
        proxy = Proxy(name, port)
        wait_until_connected(proxy.connect)
        yield proxy


def _caddy(folder: Path) -> list[str]:
    text = (ROOT / "deploy/proxy/Caddyfile").read_text()
    if subprocess.check_output(["caddy", "version"], text=True).lstrip("v").startswith("2.6."):
        # Debian's nginx has other names for it, and one size for both.
        text = re.sub(r"(request|response)_buffers (\S+)", r"buffer_\1s\nmax_buffer_size 27MiB", text)
    file = folder / "Caddyfile"
    file.write_text(text)
    return ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"]


def _nginx(folder: Path, http_port: int, port: int, web_port: int) -> list[str]:
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout key.pem"
    argv = ["openssl", *made.split(), "-out", "certificate.pem"]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    text = (ROOT / "deploy/proxy/nginx.conf").read_text()
    for ours, theirs in {
        "user www-data;": "user root;" if os.geteuid() == 0 else "",
        "/run/nginx.pid": f"{folder}/pid",
        "/var/log/nginx/error.log": f"{folder}/error.log",
        "http {": f"http {{ client_body_temp_path {folder}/body; {temporary}",
        "127.0.0.1:8000": f"127.0.0.1:{web_port}",
        "listen 80 ": f"listen 127.0.0.1:{http_port} ",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "/etc/ssl/certs/compliance.example.com.pem": f"{folder}/certificate.pem",
        "/etc/ssl/private/compliance.example.com.key": f"{folder}/key.pem",
    }.items():
        assert text.count(ours) == 1, ours
        text = text.replace(ours, theirs)
    file = folder / "nginx.conf"
    file.write_text(text)
    return ["nginx", "-p", str(folder), "-c", str(file), "-g", "daemon off;"]
