"""The floor of an export: the same lines by the same SELECT, and the plainest way to put them into the bucket."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from psycopg import Connection, sql

from benchmarks.filling import Filled
from chatbots.buckets import hosted_storage
from compliance.models import Export
from conversations.transcripts import HEADER, copy_sql

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CHOSEN = sql.SQL("""
SELECT conversation_id FROM conversations_identity
 WHERE chatbot_id = {chatbot} AND variable_id = {variable} AND value = {value}
""")
_ANY_VALUE = "some value"


class FloorDiffers(Exception):
    """The floor did not write the file that ours wrote, so the two cannot be compared."""


class Floor:
    """Writes the files of a chatbot's chatters, one after the other, on one connection."""

    def __init__(self, connection: Connection, filled: Filled) -> None:
        self._connection = connection
        chosen = _CHOSEN.format(chatbot=filled.chatbot, variable=filled.variable, value=_ANY_VALUE)
        # Composed once: what varies from chatter to chatter is the value.
        self._statement = copy_sql(chosen).as_string(connection)
        self._storage = hosted_storage()
        self._client = cast("S3Client", self._storage.connection.meta.client)
        self.sha256: dict[str, str] = {}

    def put(self, value: str) -> None:
        """COPY into memory, then one PUT: for a small file."""
        data = b"".join([HEADER, *self._copy(value)])
        self._client.put_object(Bucket=self._storage.bucket_name, Key=self.key(value), Body=data)
        self.sha256[value] = hashlib.sha256(data).hexdigest()

    def upload(self, value: str, scratch: Path) -> None:
        """COPY into a file, then boto3's `upload_file`, which sends its parts by several threads."""
        digest = hashlib.sha256(HEADER)
        with scratch.open("wb", buffering=1024 * 1024) as file:
            file.write(HEADER)
            for block in self._copy(value):
                file.write(block)
                digest.update(block)
        self._client.upload_file(str(scratch), self._storage.bucket_name, self.key(value))
        self.sha256[value] = digest.hexdigest()

    def check(self, filled: Filled) -> None:
        """Compare with the files that ours wrote of the same chatters. Raises FloorDiffers."""
        ours = set(Export.objects.filter(chatbot=filled.chatbot).values_list("sha256", flat=True))
        if not ours or not ours <= set(self.sha256.values()):
            raise FloorDiffers("Ours and the floor have written different files.")

    @staticmethod
    def key(value: str) -> str:
        return f"floor/{value}.csv"

    def _copy(self, value: str) -> Iterator[bytes]:
        statement = self._statement.replace(f"'{_ANY_VALUE}'", f"'{value}'")
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for block in copy:
                yield bytes(block)
