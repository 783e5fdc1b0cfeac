"""Backups: the scripts of `deploy/backup/`, and a backup that is tried beside the live service, as
docs/operators/restore.md says ("Test a backup")."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from common.storage import ObjectStorage
from devservers.postgres import DATABASE, PORT, postgres_program
from tests.faults.site import Site
from tests.functional.company import document
from tests.functional.support import ROOT
from tests.operated import WORKER, wait_until
from tests.oracle.client_state import UCI

DAY = 86_400


def script(name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of `deploy/backup/`."""
    path = ROOT / "deploy/backup" / name
    argv = [sys.executable if name.endswith(".py") else "/bin/sh", str(path)]
    programs = Path(postgres_program("pg_dump")).parent
    given = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **environment}
    return subprocess.run([*argv, *words], env=given, check=False, capture_output=True, text=True)


def old(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def test_a_dump_is_whole_and_those_that_are_too_old_are_removed(tmp_path: Path) -> None:
    ours = settings.DATABASES["default"]
    address = f"postgresql://{ours['USER']}@/{ours['NAME']}?host={ours['HOST']}&port={ours['PORT']}"
    young, ended = old(tmp_path / "young.dump", 28.5), old(tmp_path / "ended.dump", 29.5)

    done = script("dump.sh", str(tmp_path), DATABASE_URL=address, BACKUP_HORIZON_DAYS="30")

    assert done.returncode == 0, done.stderr
    assert not ended.exists()
    [dump] = set(tmp_path.iterdir()) - {young}
    assert dump.name.endswith("Z.dump")
    assert dump.stat().st_mode & 0o077 == 0, "others can read it"
    listed = subprocess.run([postgres_program("pg_restore"), "--list", dump], check=True, capture_output=True)
    assert b"compliance_compliancerequest" in listed.stdout

    dump.unlink()
    old(ended, 29.5)
    done = script("dump.sh", str(tmp_path), DATABASE_URL=f"{address}0", BACKUP_HORIZON_DAYS="30")

    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == [young], "nothing of a dump that failed, and none that is too old"


def test_the_ledger_is_copied_out_of_the_bucket_and_back(storage: ObjectStorage, tmp_path: Path) -> None:
    client, bucket = storage.client, settings.S3_BUCKET
    where = {
        "S3_ENDPOINT_URL": settings.S3_ENDPOINT_URL or "",
        "S3_BUCKET": bucket,
        "S3_ACCESS_KEY_ID": settings.S3_ACCESS_KEY_ID,
        "S3_SECRET_ACCESS_KEY": settings.S3_SECRET_ACCESS_KEY,
    }
    keys = ["erasure_ledger/a/1", "erasure_ledger/a/2"]
    for key in (*keys, "chatter_data_exports/3"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    gone, kept = old(tmp_path / "erasure_ledger/a/0", 91), old(tmp_path / "erasure_ledger/a/00", 89)

    assert script("ledger.py", "save", str(tmp_path), **where).stdout == "2 objects were copied.\n"
    assert script("ledger.py", "save", str(tmp_path), **where).stdout == "0 objects were copied.\n"

    assert not gone.exists()
    kept.unlink()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path).as_posix() for path in files} == set(keys)

    client.delete_object(Bucket=bucket, Key=keys[1])
    assert script("ledger.py", "load", str(tmp_path), **where).stdout == "1 objects were copied.\n"

    assert client.get_object(Bucket=bucket, Key=keys[1])["Body"].read() == keys[1].encode()
    assert script("ledger.py", "lose", str(tmp_path), **where).returncode == 1


@pytest.mark.long(reason="starts servers, a web server and a cluster")
@pytest.mark.timeout(300)
def test_a_backup_is_tried_beside_the_live_service(tmp_path: Path) -> None:
    with Site(tmp_path / "site", clusters=1) as site:
        client = site.create_chatbot("acme")
        for person in ("41", "42"):
            sent = document(f"c-{person}") | {"custom_variables": {UCI: person}}
            assert client.post("conversations", sent).status == 200
        before = _delete(client, "41")
        owner = f"postgresql://{DATABASE}@/{DATABASE}?host={site.database.runtime}&port={PORT}"
        backups = tmp_path / "backups"
        backups.mkdir()
        done = script("dump.sh", str(backups), DATABASE_URL=owner, BACKUP_HORIZON_DAYS="30")
        assert done.returncode == 0, done.stderr
        [dump] = backups.iterdir()
        since = _delete(client, "42")
        objects = site.objects()

        site.database.run("createdb", "compliance_check")
        site.database.run("pg_restore", "--exit-on-error", "--dbname", "compliance_check", str(dump))
        codes = {problem["code"] for problem in _check(site, "health", code=1)["problems"]}
        plan = json.dumps(_check(site, "replay_erasures", "--dry-run"))
        verified = _check(site, "verify_erasure", "--all")

        assert "restored_database" in codes
        assert since in plan
        assert before not in plan
        assert verified["verified"] == 1
        assert site.objects() == objects, "nothing is written to the live bucket"
        assert site.health() == set()


def _delete(client: Any, person: str) -> str:
    """Have a person erased, and return the request's id."""
    body = {"unique_chatter_identifier_key": UCI, "unique_chatter_identifier_value": person}
    filed = str(client.file("data-deletion", body).body["request_id"])
    wait_until(lambda: client.get(f"requests/{filed}").body["status"] == "completed", "the deletion completes")
    return filed


def _check(site: Site, *words: str, code: int = 0) -> Any:
    """Return what a command prints about the loaded backup."""
    environment = site.environment(WORKER)
    environment["DATABASE_URL"] = environment["DATABASE_URL"].rpartition("/")[0] + "/compliance_check"
    argv = [sys.executable, "manage.py", *words, "--json"]
    done = subprocess.run(argv, env=environment, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)
