"""The hosted bucket is tried before a request needs it: by workers, by a command and by a system check."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as now
from django.core.management.base import CommandError

from chatbots.buckets import silence
from chatbots.buckets.locations import forget_storages
from common.storage import ObjectStorage
from compliance import worker
from compliance.models import Occurrence
from compliance.work import bucket_checks, health
from tests.commands import run
from tests.config.test_settings import PRODUCTION, manage
from tests.s3_server import Identity, S3Server, running

NOBODY = Identity("nobody", ["Read", "List"])
WRITER = Identity("writer", ["Read", "Write", "List"])


def is_reported() -> bool:
    return "bucket_missing" in {problem.code for problem in health.check().problems}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running(NOBODY, WRITER) as server:
        yield server


@pytest.fixture
def hosted(server: S3Server, settings: Any) -> Iterator[Any]:
    """Make a function that has an identity use a bucket of a server of its own as the hosted one."""

    def as_(identity: Identity, bucket: str = "clients") -> None:
        settings.S3_ENDPOINT_URL, settings.S3_BUCKET = server.endpoint, bucket
        settings.S3_ACCESS_KEY_ID, settings.S3_SECRET_ACCESS_KEY = identity.access_key, identity.secret_key

    yield as_
    server.allow()
    forget_storages()


def test_workers_report_a_bucket_that_is_missing_until_it_is_there(settings: Any, storage: ObjectStorage) -> None:
    bucket = settings.S3_BUCKET
    worker.sweep()
    assert not is_reported()
    assert list(storage.versions()) == []

    # A good one is not tried at each sweep.
    settings.S3_BUCKET = "nobody-made-this"
    worker.sweep()
    assert not is_reported()
    Occurrence.objects.filter(name="bucket_missing").update(asked_at=None)
    for _ in range(2):
        worker.sweep()
        assert is_reported()

    settings.S3_BUCKET = bucket
    worker.sweep()
    assert not is_reported()


@pytest.mark.parametrize("refused", ["s3:PutObject", "s3:DeleteObjectVersion"])
def test_workers_report_a_bucket_in_which_they_may_not_write_or_remove(server, hosted, refused) -> None:
    hosted(WRITER)
    server.refuse(WRITER, refused)
    bucket_checks.check_hosted_if_due()
    assert is_reported()

    server.allow()
    bucket_checks.check_hosted_if_due()
    assert not is_reported()
    assert list(server.storage().versions()) == []


def test_trials_of_a_bucket_that_keeps_versions_do_not_add_up(server: S3Server, hosted: Any) -> None:
    server.make_bucket("versions", versioned=True)
    hosted(WRITER, "versions")
    server.refuse(WRITER, "s3:DeleteObjectVersion", bucket="versions")
    for _ in range(3):
        bucket_checks.check_hosted_if_due()
        assert is_reported()
    assert len(list(server.storage(bucket="versions").versions())) == 1

    server.allow(bucket="versions")
    bucket_checks.check_hosted_if_due()
    assert not is_reported()
    assert list(server.storage(bucket="versions").versions()) == []


def test_a_storage_that_hangs_is_none_that_is_missing(server, hosted, monkeypatch) -> None:
    monkeypatch.setattr(bucket_checks, "_SECONDS", 0.5)
    hosted(WRITER)
    server.pause()
    try:
        began = time.monotonic()
        with silence.calling_hosted():
            for _ in range(4):  # the breaker refuses the last one
                bucket_checks.check_hosted_if_due()
        assert time.monotonic() - began < 10
    finally:
        server.resume()
    assert [problem.code for problem in health.check().problems if "bucket" in problem.detail] == ["storage_silent"]


def test_the_command_checks_the_hosted_bucket_without_a_chatbot(hosted: Any, storage: ObjectStorage) -> None:
    code, out, _ = run("check_bucket", "--hosted", "--json")
    assert (code, json.loads(out)["ok"], list(storage.versions())) == (0, True, [])

    hosted(NOBODY)
    code, out, _ = run("check_bucket", "--hosted")
    assert (code, "failed write an object (s3:PutObject)" in out) == (3, True)
    hosted(WRITER, "nobody-made-this")
    assert "The bucket does not exist" in run("check_bucket", "--hosted").out
    with pytest.raises(CommandError, match="no chatbot"):  # as of a script whose variable is empty
        run("check_bucket", "")


@pytest.mark.long(reason="starts programs")
def test_the_deployment_check_calls_the_storage_where_its_tag_is_named(storage: ObjectStorage) -> None:
    given = PRODUCTION | {
        "S3_ENDPOINT_URL": now.S3_ENDPOINT_URL or "",
        "S3_ACCESS_KEY_ID": now.S3_ACCESS_KEY_ID,
        "S3_SECRET_ACCESS_KEY": now.S3_SECRET_ACCESS_KEY,
        "S3_BUCKET": storage.bucket_name,
    }
    missing = given | {"S3_BUCKET": "nobody-made-this"}
    command = ("check", "--deploy", "--fail-level", "WARNING")

    assert "E013" not in manage(missing, *command).stderr
    refused = manage(missing, *command, "--tag", "storage")
    assert (refused.returncode, "storage_bucket_missing" in refused.stderr) == (1, True)
    assert "(compliance.E013)" in refused.stderr
    assert f"S3_BUCKET is nobody-made-this, at {now.S3_ENDPOINT_URL} in us-east-1." in refused.stderr
    done = manage(given, *command, "--tag=storage")
    assert done.returncode == 0, done.stderr
