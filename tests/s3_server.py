"""A private S3 server with chosen identities, which a test can stop, pause and kill.

The shared one of conftest has a single identity that may do all. An identity's `actions` are SeaweedFS's: `Read`,
`Write` (which deletes too), `List` or `Admin`, each for all buckets or as `Read:bucket` or `Read:bucket/prefix/*`.
What they cannot express, such as writing without deleting, `S3Server.refuse` can.
"""

import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.storage import ObjectStorage
from common.storage.sessions import CLIENT_CONFIG
from devservers import control
from devservers.processes import hold
from devservers.s3 import S3, SeaweedFS


@dataclass(frozen=True)
class Identity:
    """An identity and its rights. Key and secret follow from the name."""

    name: str
    actions: Sequence[str]

    @property
    def access_key(self) -> str:
        return f"key-of-{self.name}"

    @property
    def secret_key(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


ADMIN = Identity("admin", ["Admin", "Read", "Write", "List", "Tagging"])


class S3Server(SeaweedFS):
    """Start it with `running`. Its first bucket is `bucket`; `ADMIN` may do all."""

    # The data is discarded.
    stop_signals = ((signal.SIGKILL, 5), (signal.SIGKILL, 5))

    def __init__(
        self,
        home: Path,
        identities: Sequence[Identity] = (),
        *,
        bucket: str = "clients",
        off: Sequence[str] = (),
    ) -> None:
        self.switched_off = (*self.switched_off, *off)
        self.identities = [ADMIN, *identities]
        runtime = home / "run"
        runtime.mkdir()
        ports = control.free_ports()
        super().__init__(home, runtime, S3(ADMIN.access_key, ADMIN.secret_key, bucket), ports)
        # So that no other test's server takes them while this one is stopped.
        self.held = [hold(port) for port in self.all_ports]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    def start(self) -> None:
        """Start it, also again after `stop`: with the same ports and data."""
        self.begin(alone=True)
        self.wait()

    def pause(self) -> None:
        """Pause it: connections open, but nothing responds."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def set_identities(self, *identities: Identity) -> None:
        """Change the identities, as an administrator who revokes a key does. Restarts in under a second."""
        self.stop()
        self.identities = [ADMIN, *identities]
        self.start()

    def refuse(self, identity: Identity, *actions: str, bucket: str = "", prefix: str = "") -> None:
        """Deny single rights (`s3:DeleteObjectVersion`) to an identity below a prefix. Without actions: none."""
        arn = f"arn:aws:s3:::{bucket or self.s3.bucket}"
        statement = {"Effect": "Deny", "Action": list(actions), "Resource": [arn, f"{arn}/{prefix}*"]}
        self.allow(identity, *([statement] if actions else []), bucket=bucket)

    def allow(self, identity: Identity = ADMIN, *statements: dict[str, Any], bucket: str = "") -> None:
        """Make these statements, for this identity, the policy of the bucket. Without any it has no policy."""
        bucket = bucket or self.s3.bucket
        client = self.storage(bucket=bucket).client
        if not statements:
            with suppress(client.exceptions.ClientError):  # it has none
                client.delete_bucket_policy(Bucket=bucket)
            return
        principal = {"AWS": f"arn:aws:iam::000000000000:user/{identity.name}"}
        policy = {
            "Version": "2012-10-17",
            "Statement": [{**statement, "Principal": principal} for statement in statements],
        }
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def make_bucket(self, bucket: str, *, versioned: bool = False) -> None:
        storage = self.storage(bucket=bucket)
        storage.create_bucket_if_missing()
        if versioned:
            client = storage.client
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def storage(self, identity: Identity = ADMIN, *, bucket: str = "", **options: Any) -> ObjectStorage:
        """Return a bucket of it as this identity sees it; `options` are those of ObjectStorage."""
        chosen = {
            "bucket_name": bucket or self.s3.bucket,
            "endpoint_url": self.endpoint,
            "region_name": "us-east-1",
            "access_key": identity.access_key,
            "secret_key": identity.secret_key,
            "client_config": CLIENT_CONFIG,
        }
        return ObjectStorage(**{**chosen, **options})

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid(), number)

    def _identities(self) -> str:
        return json.dumps(
            {
                "identities": [
                    {
                        "name": one.name,
                        "credentials": [{"accessKey": one.access_key, "secretKey": one.secret_key}],
                        "actions": list(one.actions),
                    }
                    for one in self.identities
                ]
            }
        )


@contextmanager
def running(*identities: Identity, bucket: str = "clients", off: Sequence[str] = ()) -> Iterator[S3Server]:
    """Run a separate server, and discard it afterwards. It takes about a second: share it where you can.

    `off` are switches of SeaweedFS that are turned off, such as `s3.iam`.
    """
    home = Path(tempfile.mkdtemp(prefix="s3-"))
    server = S3Server(home, identities, bucket=bucket, off=off)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        for port in server.held:
            port.close()
        shutil.rmtree(home, ignore_errors=True)
