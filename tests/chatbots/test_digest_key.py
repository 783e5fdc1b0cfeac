"""The service starts with the DIGEST_KEY that its database was set up with, and with no other."""

import base64
import subprocess

import pytest
from django.core.management import call_command
from django.db import connection

from chatbots import digest_key
from chatbots.models import DigestKey
from common.crypto import fingerprint
from compliance import checks
from scripts.processes import web_command
from tests.functional.support import ROOT, manage, worker_environment

ANOTHER = b"another key of 32 bytes, not ours"[:32]
HOW = "Restore the original key"


def start(*argv: str) -> "subprocess.CompletedProcess[str]":
    """Start a process of the service with another key, which is to end by itself."""
    environment = worker_environment() | {"DIGEST_KEY": f"test:{base64.urlsafe_b64encode(ANOTHER).decode()}"}
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.django_db
def test_the_fingerprint_is_written_once() -> None:
    (kept,) = DigestKey.objects.values_list("fingerprint", flat=True)
    assert bytes(kept) == fingerprint()

    call_command("migrate", verbosity=0)
    assert DigestKey.objects.count() == 1

    DigestKey.objects.all().delete()
    call_command("migrate", verbosity=0)
    assert DigestKey.objects.count() == 1


@pytest.mark.django_db
def test_a_check_refuses_another_key_with_instructions(settings) -> None:
    assert checks.digest_key_matches() == []
    settings.DIGEST_KEY = ANOTHER

    (error,) = checks.digest_key_matches()

    assert error.id == "compliance.E004"
    assert HOW in f"{error.hint}"


@pytest.mark.django_db(transaction=True)
def test_no_new_connection_is_used_with_another_key(settings) -> None:
    settings.DIGEST_KEY = ANOTHER
    connection.close()

    for _ in range(2):
        with pytest.raises(digest_key.DigestKeyMismatch), connection.cursor():
            pass


@pytest.mark.long(reason="starts four programs")
@pytest.mark.django_db(transaction=True)
def test_neither_worker_nor_web_nor_command_starts_with_another_key() -> None:
    for argv in (
        manage("qcluster"),
        web_command("--bind", "127.0.0.1:0"),
        manage("migrate"),
        manage("verify_erasure", "--all"),
    ):
        ended = start(*argv)
        assert ended.returncode != 0, argv
        assert HOW in ended.stderr, argv


@pytest.mark.long(reason="starts a program")
@pytest.mark.django_db
def test_an_unreachable_database_is_not_reported_as_a_wrong_key() -> None:
    environment = worker_environment() | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    ended = subprocess.run(
        manage("check"), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, "no issues" in ended.stdout) == (0, True)
