"""Chatbots whose exports go to a client's own bucket, on a private S3 server."""

from chatbots.buckets.locations import bucket_secret_binding
from chatbots.models import Bucket, Chatbot
from common.crypto import encrypt
from common.storage import ObjectStorage
from common.storage.sessions import CLIENT_CONFIG
from tests.s3_server import ADMIN, Identity, S3Server

# Its keys can access only the bucket of an embedded server.
CLIENT = Identity("client", [f"{right}:clients" for right in ("Read", "Write", "List")])
PREFIX = "from-platform/"


def use_client_bucket(
    chatbot: Chatbot,
    server: S3Server,
    *,
    identity: Identity = ADMIN,
    bucket: str = "",
    prefix: str = PREFIX,
    endpoint: str = "",
) -> Bucket:
    """Configure a bucket of the server for a chatbot, with the identity's key."""
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting=Bucket.Hosting.CLIENT,
        bucket=bucket or server.s3.bucket,
        region="us-east-1",
        prefix=prefix,
        endpoint=endpoint or server.endpoint,
        access_key_id=identity.access_key,
        secret_encrypted=encrypt(identity.secret_key, bound_to=bucket_secret_binding(chatbot.pk)),
    )
    return Bucket.objects.get(chatbot=chatbot)


def use_bucket_at(chatbot: Chatbot, endpoint: str) -> None:
    """Configure a bucket of its own for a chatbot, on a server that checks no keys."""
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting=Bucket.Hosting.CLIENT,
        bucket=f"bucket-of-{chatbot.slug}",
        region="us-east-1",
        endpoint=endpoint,
        access_key_id="key",
        secret_encrypted=encrypt("secret-of-the-key", bound_to=bucket_secret_binding(chatbot.pk)),
    )


def use_hosted_bucket(chatbot: Chatbot) -> None:
    Bucket.objects.filter(chatbot=chatbot).update(
        hosting=Bucket.Hosting.HOSTED,
        bucket="",
        region="",
        prefix="",
        endpoint="",
        access_key_id="",
        secret_encrypted="",
    )


def empty(storage: ObjectStorage) -> int:
    """Remove all objects, in every version, and all open uploads. Return how many versions there were."""
    for upload in list(storage.uploads()):
        storage.abort(upload.key, upload.upload_id)
    versions = list(storage.versions())
    assert storage.remove_versions(versions) == {}
    return len(versions)


def storage_at(endpoint: str, **options: object) -> ObjectStorage:
    """Return a storage at any address, as the service makes one of a client's bucket."""
    given = {
        "bucket_name": "clients",
        "endpoint_url": endpoint,
        "region_name": "us-east-1",
        "access_key": "key",
        "secret_key": "secret",
        "client_config": CLIENT_CONFIG,
    }
    return ObjectStorage(**given | options)
