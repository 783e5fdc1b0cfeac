"""How the commands print a bucket and the result of its check."""

from typing import Any

from django.conf import settings
from django.core.management.base import OutputWrapper

from chatbots.models import Bucket
from chatbots.operations.buckets import SETTINGS, BucketCheckResult


def bucket_as_json(bucket: Bucket) -> dict[str, Any]:
    """Return a bucket's settings as JSON data, without the secret."""
    if bucket.hosting == Bucket.Hosting.HOSTED:
        where = {"bucket": settings.S3_BUCKET, "region": settings.S3_REGION, "prefix": f"{bucket.chatbot.slug}/"}
        return {"slug": bucket.chatbot.slug, "hosting": "hosted", **where}
    names = [name for name in SETTINGS if name not in {"hosting", "secret_encrypted"}]
    return {"slug": bucket.chatbot.slug, "hosting": "client", **{name: getattr(bucket, name) for name in names}}


def result_as_json(result: BucketCheckResult) -> dict[str, Any]:
    steps = [
        {
            "name": step.name,
            "ok": step.is_ok,
            "permission": step.permission,
            "code": step.error.code if step.error else None,
            "detail": step.error.detail if step.error else None,
        }
        for step in result.steps
    ]
    return {"ok": result.is_ok, "error": result.error or None, "steps": steps}


def print_result(result: BucketCheckResult, stream: OutputWrapper) -> None:
    for step in result.steps:
        stream.write(f"{'ok    ' if step.is_ok else 'failed'} {step.name} ({step.permission})")
        if step.error:
            stream.write(f"       {step.error.detail}")
    if not result.steps:
        stream.write(result.error)
    stream.write("The bucket can be used." if result.is_ok else "The bucket cannot be used as it is.")
