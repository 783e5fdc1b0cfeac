"""The settings at start-up, in processes of their own, and the parsers of single ones."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import NotSupportedError, connection
from django.db.backends.postgresql.base import DatabaseWrapper
from marshmallow import ValidationError

from config.env import parse_media_types, parse_postgres_url

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
    "BACKUP_HORIZON_DAYS": "30",
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


@pytest.fixture(scope="module")
def production() -> dict[str, Any]:
    """The settings in production with nothing set that has a default, as JSON can hold them."""
    shown = "{name: value for name, value in vars(settings).items() if name.isupper()}"
    found: dict[str, Any] = json.loads(read(PRODUCTION, f"__import__('json').dumps({shown}, default=str)").stdout)
    return found


def test_in_production_debug_is_off_and_keys_are_as_given(production: dict[str, Any]) -> None:
    assert (production["DEBUG"], production["DEVELOPMENT"]) == (False, False)
    assert list(production["ENCRYPTION_KEYS"]) == ["new", "old"]


def test_browsers_insist_on_https_for_an_hour_and_on_this_host_alone(production: dict[str, Any]) -> None:
    names = ("SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD")
    assert [production[name] for name in names] == [3_600, False, False]


def test_what_is_given_in_an_unusual_way_is_read(tmp_path: Path) -> None:
    """An empty fallback is none; a secret can come from a file that ends with a newline."""
    file = tmp_path / "secret"
    file.write_text("from-a-file\n")
    given = {"SECRET_KEY_FALLBACKS": "first, ,second,", "S3_SECRET_ACCESS_KEY_FILE": str(file)}
    given["IDLE_TRANSACTION_SECONDS"] = "0"
    variables = {name: value for name, value in PRODUCTION.items() if name != "S3_SECRET_ACCESS_KEY"}
    options = "settings.DATABASES['default']['OPTIONS'].get('options')"
    found = read(variables | given, f"settings.SECRET_KEY_FALLBACKS, settings.S3_SECRET_ACCESS_KEY, {options}")
    assert found.stdout == "['first', 'second'] from-a-file None\n"


def test_a_connection_that_is_cut_off_or_says_nothing_is_ended_beside_what_the_url_asks_for(production) -> None:
    names = ("connect_timeout", "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count")
    default = production["DATABASES"]["default"]["OPTIONS"]
    assert [default[name] for name in names] == [10, 60_000, 30, 10, 3]
    assert default["options"] == "-c idle_in_transaction_session_timeout=60s"
    url = "postgresql://me@host/db?keepalives_idle=5&options=-c%20work_mem%3D8MB"
    shown = f"[settings.DATABASES['default']['OPTIONS'][name] for name in {(*names, 'options')}]"
    expected = "[10, 60000, 5, 10, 3, '-c work_mem=8MB -c idle_in_transaction_session_timeout=60s']\n"
    assert read(PRODUCTION | {"DATABASE_URL": url}, shown).stdout == expected


def test_sample_data_is_not_installed_in_production(production: dict[str, Any]) -> None:
    assert "devdata" not in production["INSTALLED_APPS"]


def test_all_bad_settings_are_reported_at_once_by_name_and_without_the_value() -> None:
    bad = PRODUCTION | {
        "ENCRYPTION_KEYS": "k1:too-short",
        "DIGEST_KEY": f"a:{KEY},b:{KEY}",
        "VARIABLE_DAYS": "thirty",
        "PORT": "http",
        "DEBUG": "perhaps",
        "DATABASE_URL": "mysql://me:too-secret@localhost/none",
        "LOG_FORMAT": "xml",
        "LOG_LEVEL": "loud",
        "METRICS_TOKEN": "too-short",
        "UPLOAD_TYPES": "image/",
        "WORKERS": "0",
    }
    del bad["S3_BUCKET"], bad["ALLOWED_HOSTS"], bad["BACKUP_HORIZON_DAYS"]
    found = manage(bad, "check")

    title, *lines = found.stderr.splitlines()
    assert found.returncode == 1
    assert title.startswith("These settings are missing or wrong")
    assert {line.split(":")[0].strip() for line in lines} == {
        "ALLOWED_HOSTS",
        "BACKUP_HORIZON_DAYS",
        "DATABASE_URL",
        "DEBUG",
        "DIGEST_KEY",
        "ENCRYPTION_KEYS",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "METRICS_TOKEN",
        "PORT",
        "S3_BUCKET",
        "UPLOAD_TYPES",
        "VARIABLE_DAYS",
        "WORKERS",
    }
    assert "too-s" not in found.stderr
    assert KEY not in found.stderr


@pytest.mark.parametrize("url", ["garbage", "postgresql://me:too-secret@host:port/none", "postgresql://host"])
def test_a_url_without_a_postgresql_database_is_refused(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parse_postgres_url(url)
    assert refused.value.messages == ["Must be postgresql://user:password@host:port/name, percent-encoded."]


@pytest.mark.long(reason="starts a program")
def test_an_unreachable_database_is_reported_in_one_line() -> None:
    found = manage(PRODUCTION | {"DATABASE_URL": "postgresql://me@127.0.0.1:1/none"}, "showmigrations")

    assert found.returncode == 1
    assert found.stderr.startswith("The database refused or cannot be reached: SQLSTATE none. Is it up")
    assert len(found.stderr.splitlines()) == 1


def test_a_development_copy_creates_its_keys_once_and_passes_none_to_children(tmp_path: Path) -> None:
    variables = {"VAR_DIR": str(tmp_path / "var")}
    shown = "settings.DEBUG, settings.SECRET_KEY, 'SECRET_KEY' in __import__('os').environ"

    first, second = read(variables, shown), read(variables, shown)

    assert first.stdout == second.stdout != ""
    assert first.stdout.startswith("True ")
    assert first.stdout.endswith(" False\n")
    assert (tmp_path / "var" / "keys.env").stat().st_mode & 0o777 == 0o600


def test_production_requires_each_of_its_secrets() -> None:
    secrets = {"SECRET_KEY", "ENCRYPTION_KEYS", "DIGEST_KEY", "S3_ACCESS_KEY_ID"}
    found = read({key: value for key, value in PRODUCTION.items() if key not in secrets})
    assert found.returncode != 0
    assert {name for name in PRODUCTION if name in found.stderr} == secrets


def test_media_types_are_a_list_in_lower_case() -> None:
    assert parse_media_types("image/PNG, audio/* ,*/*") == ["image/png", "audio/*", "*/*"]


@pytest.mark.parametrize("value", ["png", "image/", "image/png;q=1", " , "])
def test_a_bad_media_type_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        parse_media_types(value)


@pytest.mark.long(reason="starts a program for each setting")
def test_mails_are_off_until_a_server_and_a_sender_are_configured(production: dict[str, Any]) -> None:
    names = ("MAILS", "EMAIL_HOST", "EMAIL_PORT", "EMAIL_USE_TLS", "CONSOLE_URL")
    expression = ", ".join(f"settings.{name}" for name in names)
    assert [production[name] for name in names] == [False, None, None, False, ""]
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


def test_cookies_have_names_that_no_other_host_can_set(production: dict[str, Any]) -> None:
    assert production["SESSION_COOKIE_NAME"] == "__Host-sessionid"
    assert production["CSRF_COOKIE_NAME"] == "__Host-csrftoken"
    assert production["SESSION_COOKIE_SECURE"] is True


def test_a_postgresql_before_15_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(version: int) -> None:
        monkeypatch.setattr(DatabaseWrapper, "get_database_version", lambda _: divmod(version, 10_000))
        connection.check_database_version_supported()

    [documented] = re.findall(r"You need PostgreSQL (\d+) or later", (ROOT / "docs/operators/servers.md").read_text())
    check(int(documented) * 10_000)
    with pytest.raises(NotSupportedError, match=f"PostgreSQL {documented} or later is required"):
        check(int(documented) * 10_000 - 1)
