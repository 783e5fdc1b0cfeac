"""What the commands for buckets have in common: how a bucket and the outcome of its check are shown."""

from typing import Any

from django.conf import settings
from django.core.management.base import OutputWrapper

from chatbots.models import Bucket
from chatbots.operations.buckets import Outcome


def shown_bucket(bucket: Bucket) -> dict[str, Any]:
    """Return a bucket's settings for a script, without the secret."""
    if bucket.hosting == Bucket.Hosting.HOSTED:
        where = {"bucket": settings.S3_BUCKET, "region": settings.S3_REGION, "prefix": f"{bucket.chatbot.slug}/"}
        return {"slug": bucket.chatbot.slug, "hosting": "hosted", **where}
    names = (
        "bucket",
        "region",
        "prefix",
        "endpoint",
        "sse",
        "kms_key_id",
        "access_key_id",
        "role_arn",
        "external_id",
    )
    return {"slug": bucket.chatbot.slug, "hosting": "client", **{name: getattr(bucket, name) for name in names}}


def shown_outcome(outcome: Outcome) -> dict[str, Any]:
    steps = [
        {
            "name": step.name,
            "ok": step.is_ok,
            "permission": step.permission,
            "code": step.error.code if step.error else None,
            "detail": step.error.detail if step.error else None,
        }
        for step in outcome.steps
    ]
    return {"ok": outcome.is_ok, "error": outcome.error or None, "steps": steps}


def tell_outcome(outcome: Outcome, stream: OutputWrapper) -> None:
    for step in outcome.steps:
        stream.write(f"{'ok     ' if step.is_ok else 'refused'} {step.name} ({step.permission})")
        if step.error:
            stream.write(f"        {step.error.detail}")
    if not outcome.steps:
        stream.write(outcome.error)
    stream.write("The bucket can be used." if outcome.is_ok else "The bucket cannot be used as it is.")
