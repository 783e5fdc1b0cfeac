"""The settings at start-up, each in its own process."""

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


def manage(variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py under just these variables."""
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_in_production_debug_is_off_and_keys_are_as_given() -> None:
    found = read(PRODUCTION, "settings.DEBUG, settings.DEVELOPMENT, list(settings.ENCRYPTION_KEYS)")
    assert found.stdout == "False False ['new', 'old']\n"


def test_sample_data_is_not_installed_in_production() -> None:
    assert read(PRODUCTION, "'devdata' in settings.INSTALLED_APPS").stdout == "False\n"
    assert manage(PRODUCTION, "help", "seed_demo").returncode != 0


def test_all_bad_settings_are_reported_at_once_by_name_and_without_the_value() -> None:
    bad = PRODUCTION | {
        "ENCRYPTION_KEYS": "k1:too-short",
        "DIGEST_KEY": f"a:{KEY},b:{KEY}",
        "DUE_DAYS": "thirty",
        "PORT": "http",
        "DEBUG": "perhaps",
        "DATABASE_URL": "mysql://me:too-secret@localhost/none",
        "LOG_FORMAT": "xml",
        "LOG_LEVEL": "loud",
        "METRICS_TOKEN": "too-short",
        "WORKERS": "0",
    }
    del bad["S3_BUCKET"], bad["ALLOWED_HOSTS"]
    found = manage(bad, "check")

    title, *lines = found.stderr.splitlines()
    assert found.returncode == 1
    assert title.startswith("These settings are missing or wrong")
    assert {line.split(":")[0].strip() for line in lines} == {
        "ALLOWED_HOSTS",
        "DATABASE_URL",
        "DEBUG",
        "DIGEST_KEY",
        "DUE_DAYS",
        "ENCRYPTION_KEYS",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "METRICS_TOKEN",
        "PORT",
        "S3_BUCKET",
        "WORKERS",
    }
    assert "too-s" not in found.stderr
    assert KEY not in found.stderr


@pytest.mark.parametrize("url", ["garbage", "postgresql://me:too-secret@host:port/none", "postgresql://host"])
def test_a_url_without_a_postgresql_database_is_reported(url: str) -> None:
    found = manage(PRODUCTION | {"DATABASE_URL": url}, "check")

    assert found.stderr.splitlines()[1:] == [
        "  DATABASE_URL: Must be postgresql://user:password@host:port/name, percent-encoded."
    ]


def test_an_unreachable_database_is_reported_in_one_line() -> None:
    found = manage(PRODUCTION | {"DATABASE_URL": "postgresql://me@127.0.0.1:1/none"}, "showmigrations")

    assert found.returncode == 1
    assert found.stderr.startswith("The database refused or cannot be reached: SQLSTATE none. Is it up")
    assert len(found.stderr.splitlines()) == 1


def test_a_secret_can_come_from_a_file_that_ends_with_a_newline(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    variables = PRODUCTION | {"S3_SECRET_ACCESS_KEY_FILE": str(file)}
    del variables["S3_SECRET_ACCESS_KEY"]

    assert read(variables, "settings.S3_SECRET_ACCESS_KEY").stdout == "from-a-file\n"


def test_a_development_copy_creates_its_keys_once_and_passes_none_to_children(tmp_path: Path) -> None:
    variables = {"VAR_DIR": str(tmp_path / "var")}
    shown = "settings.DEBUG, settings.SECRET_KEY, 'SECRET_KEY' in __import__('os').environ"

    first, second = read(variables, shown), read(variables, shown)

    assert first.stdout == second.stdout != ""
    assert first.stdout.startswith("True ")
    assert first.stdout.endswith(" False\n")
    assert (tmp_path / "var" / "keys.env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["SECRET_KEY", "ENCRYPTION_KEYS", "DIGEST_KEY", "S3_ACCESS_KEY_ID"])
def test_production_requires_each_of_its_secrets(name: str) -> None:
    found = read({key: value for key, value in PRODUCTION.items() if key != name})
    assert found.returncode != 0
    assert name in found.stderr


def test_media_types_are_a_list_in_lower_case() -> None:
    printed = read(PRODUCTION | {"UPLOAD_TYPES": "image/PNG, audio/* ,*/*"}, "settings.UPLOAD_TYPES").stdout

    assert printed.strip() == "['image/png', 'audio/*', '*/*']"


@pytest.mark.parametrize("value", ["png", "image/", "image/png;q=1", " , "])
def test_a_bad_media_type_is_reported_with_the_settings_name(value: str) -> None:
    process = read(PRODUCTION | {"UPLOAD_TYPES": value})

    assert process.returncode != 0
    assert "UPLOAD_TYPES" in process.stderr


def test_mails_are_off_until_a_server_and_a_sender_are_configured() -> None:
    expression = (
        "settings.MAILS, settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_USE_TLS, settings.CONSOLE_URL"
    )
    assert read(PRODUCTION, expression).stdout == "False None None False \n"
    server = {
        "EMAIL_URL": "submission://me:s%40crecy@mail.example.com",
        "CONSOLE_URL": "https://console.example.com/",
    }
    found = manage(PRODUCTION | server, "check")
    assert "DEFAULT_FROM_EMAIL" in found.stderr
    found = read(PRODUCTION | server | {"DEFAULT_FROM_EMAIL": "dca@example.com"}, expression)
    assert found.stdout == "True mail.example.com 587 True https://console.example.com\n"
    wrong = {"EMAIL_URL": "imap://me:too-secret@mail.example.com", "CONSOLE_URL": "console.example.com"}
    found = manage(PRODUCTION | wrong, "check")
    assert [line.split(":")[0].strip() for line in found.stderr.splitlines()[1:]] == ["EMAIL_URL", "CONSOLE_URL"]
    assert "too-secret" not in found.stderr


def test_cookies_have_names_that_no_other_host_can_set() -> None:
    found = read(
        PRODUCTION, "settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, settings.SESSION_COOKIE_SECURE"
    )
    assert found.stdout == "__Host-sessionid __Host-csrftoken True\n"
