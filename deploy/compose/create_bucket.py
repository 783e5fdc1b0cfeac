"""Create the bucket of the S3 server in compose.yaml, once it answers. Safe to repeat."""

import os
import sys
import time
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PATIENCE_SECONDS = 60
THERE_ALREADY = {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}


def main() -> str | None:
    """Return what went wrong, for `sys.exit`."""
    client = boto3.client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT_URL"],
        aws_access_key_id=os.environ["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["S3_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    end = time.monotonic() + PATIENCE_SECONDS
    while (code := create(client)) and time.monotonic() < end:
        time.sleep(1)
    return f"The bucket could not be created: {code}." if code else None


def create(client: "S3Client") -> str | None:
    """Create the bucket unless it is there; return the code of an error."""
    try:
        client.create_bucket(Bucket=os.environ["S3_BUCKET"])
    except ClientError as error:
        code = error.response["Error"]["Code"]
        return None if code in THERE_ALREADY else code
    except BotoCoreError as error:
        return type(error).__name__
    return None


if __name__ == "__main__":
    sys.exit(main())
