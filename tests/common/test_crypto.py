"""Objects are stored with the encryption that was asked for, on a real server."""

from typing import Any

import pytest

from common.storage import ObjectStorage
from common.storage.sessions import CLIENT_CONFIG


@pytest.mark.parametrize("write", ["put", "multipart"])
def test_it_asks_s3_to_encrypt_and_reads_it_back(storage: ObjectStorage, settings: Any, write: str) -> None:
    encrypting = ObjectStorage(
        bucket_name=storage.bucket_name,
        endpoint_url=settings.S3_ENDPOINT_URL,
        region_name=settings.S3_REGION,
        access_key=settings.S3_ACCESS_KEY_ID,
        secret_key=settings.S3_SECRET_ACCESS_KEY,
        security_token=None,
        session_profile=None,
        client_config=CLIENT_CONFIG,
        sse="AES256",
    )
    if write == "put":
        encrypting.put("a/key", b"text", "text/plain")
    else:
        encrypting.write_parts("a/key", encrypting.open_upload("a/key", content_type="text/plain"), [b"text"])
    head = storage.client.head_object(Bucket=storage.bucket_name, Key="a/key")
    assert head["ServerSideEncryption"] == "AES256"
    assert storage.read("a/key") == b"text"
