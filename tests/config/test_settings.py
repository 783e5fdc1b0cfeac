"""The settings as a start-up meets them, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
PRODUCTION = {
    "SECRET_KEY": "x" * 50,
    "DATABASE_URL": "postgresql://nobody@localhost/none",
    "ENCRYPTION_KEYS": f"new:{KEY},old:{KEY}",
    "DIGEST_KEY": f"d1:{KEY}",
    "ALLOWED_HOSTS": "compliance.example.com",
    "S3_ACCESS_KEY_ID": "id",
    "S3_SECRET_ACCESS_KEY": "secret",
    "S3_BUCKET": "bucket",
}


def read(variables: dict[str, str], expression: str = "") -> subprocess.CompletedProcess[str]:
    """Import the settings in a fresh process under just these variables, and print an expression of them."""
    code = f"from config import settings\nprint({expression})"
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_in_production_debug_is_off_and_keys_are_as_given() -> None:
    told = read(PRODUCTION, "settings.DEBUG, settings.DEVELOPMENT, list(settings.ENCRYPTION_KEYS)")
    assert told.stdout == "False False ['new', 'old']\n"


def test_all_bad_values_are_told_at_once_by_name_and_without_the_value() -> None:
    bad = PRODUCTION | {
        "ENCRYPTION_KEYS": "k1:too-short",
        "DIGEST_KEY": f"a:{KEY},b:{KEY}",
        "DUE_DAYS": "thirty",
        "PORT": "http",
        "DEBUG": "perhaps",
        "DATABASE_URL": "garbage",
    }
    del bad["S3_BUCKET"]

    told = read(bad)

    assert told.returncode != 0
    for name in ("ENCRYPTION_KEYS", "DIGEST_KEY", "DUE_DAYS", "PORT", "DEBUG", "DATABASE_URL", "S3_BUCKET"):
        assert name in told.stderr.splitlines()[-1], name
    assert "too-short" not in told.stderr
    assert KEY not in told.stderr


def test_a_secret_can_come_from_a_file_that_ends_with_a_newline(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    variables = PRODUCTION | {"S3_SECRET_ACCESS_KEY_FILE": str(file)}
    del variables["S3_SECRET_ACCESS_KEY"]

    assert read(variables, "settings.S3_SECRET_ACCESS_KEY").stdout == "from-a-file\n"


def test_a_development_copy_makes_its_keys_once_and_hands_none_to_its_children(tmp_path: Path) -> None:
    variables = {"VAR_DIR": str(tmp_path / "var")}
    shown = "settings.DEBUG, settings.SECRET_KEY, 'SECRET_KEY' in __import__('os').environ"

    first, second = read(variables, shown), read(variables, shown)

    assert first.stdout == second.stdout != ""
    assert first.stdout.startswith("True ")
    assert first.stdout.endswith(" False\n")
    assert (tmp_path / "var" / "keys.env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["SECRET_KEY", "ENCRYPTION_KEYS", "DIGEST_KEY", "S3_ACCESS_KEY_ID"])
def test_production_wants_each_of_its_secrets(name: str) -> None:
    told = read({key: value for key, value in PRODUCTION.items() if key != name})
    assert told.returncode != 0
    assert name in told.stderr
