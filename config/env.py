"""Reads environment variables: plain, in `.env`, or from files (`NAME_FILE`).

Invalid values are collected: `env.seal()` at the end of the settings reports them all, by name.
"""

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import dj_email_url
from environs import EnvValidationError, FileAwareEnv
from marshmallow import ValidationError

_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+*-]+/[a-z0-9!#$&^_.+*-]+")

BASE_DIR = Path(__file__).resolve().parent.parent

# The file of a secret often ends with a newline.
env = FileAwareEnv(eager=False, strip_whitespace=True)


@env.parser_for("key_ring")
def parse_key_ring(text: str) -> dict[str, bytes]:
    """Parse `<id>:<urlsafe base64 of 32 bytes>[,…]`, newest first, into an ordered mapping of id to key.

    Raises ValidationError, which never quotes the value, for an empty ring, a repeated id, or a key of another
    length.
    """
    keys: dict[str, bytes] = {}
    for position, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        key_id, _, encoded = entry.partition(":")
        try:
            key = base64.urlsafe_b64decode(encoded.encode())
        except (binascii.Error, ValueError):
            key = b""
        if not key_id or key_id in keys or len(key) != 32:
            raise ValidationError(f"Entry {position} must be <id>:<urlsafe base64 of 32 bytes>, with a unique id.")
        keys[key_id] = key
    if not keys:
        raise ValidationError("At least one key is needed.")
    return keys


@env.parser_for("single_key")
def parse_single_key(text: str) -> bytes:
    """Return the only key of a ring. Raises ValidationError."""
    keys: dict[str, bytes] = parse_key_ring(text)
    if len(keys) > 1:
        raise ValidationError("Must be one key: it never rotates.")
    return next(iter(keys.values()))


def development_keys(var_dir: Path) -> list[str]:
    """Put the keys of a development copy into the environment, and return the names that were not set before.

    They are generated on first use in `keys.env` (0600). Processes that start together agree: the complete file is
    linked into place once.
    """
    path = var_dir / "keys.env"
    if not path.exists():
        var_dir.mkdir(parents=True, exist_ok=True)
        draft = var_dir / f".keys.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"SECRET_KEY={secrets.token_urlsafe(48)}\n")
            file.write(f"ENCRYPTION_KEYS=dev1:{_new_key()}\n")
            file.write(f"DIGEST_KEY=dev1:{_new_key()}\n")
            file.write(f"S3_ACCESS_KEY_ID=dev{secrets.token_hex(8)}\n")
            file.write(f"S3_SECRET_ACCESS_KEY={secrets.token_urlsafe(30)}\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    pairs = dict(line.split("=", 1) for line in path.read_text().splitlines())
    added = [name for name in pairs if name not in os.environ]
    os.environ.update({name: pairs[name] for name in added})
    return added


def _new_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@env.parser_for("days")
def parse_days(text: str) -> timedelta:
    """Parse a whole number of days. Raises ValidationError."""
    if not text.isdecimal() or not 0 < int(text) < 100_000:
        raise ValidationError("Must be a whole number of days.")
    return timedelta(days=int(text))


@env.parser_for("networks")
def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Parse comma-separated networks such as `10.0.0.0/8,fd00::/8`. Raises ValidationError."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValidationError("Must be networks such as 10.1.0.0/16, separated by commas.") from None


@env.parser_for("media_types")
def parse_media_types(text: str) -> list[str]:
    """Parse comma-separated media types; `*` matches any characters. Raises ValidationError."""
    types = [each.strip().lower() for each in text.split(",") if each.strip()]
    if not types or not all(_MEDIA_TYPE.fullmatch(each) for each in types):
        raise ValidationError("Must be media types such as image/png or audio/*, separated by commas.")
    return types


@env.parser_for("postgres_url")
def parse_postgres_url(text: str) -> dict[str, Any]:
    """Parse `postgresql://…` into an entry of DATABASES. Raises ValidationError, which never quotes the password."""
    # URLs of other databases would parse, and fail later for a missing driver.
    is_postgres = text.startswith(("postgres://", "postgresql://"))
    try:
        parsed = dict(dj_database_url.parse(text)) if is_postgres else {}
    except ValueError:
        parsed = {}
    if not parsed.get("NAME"):
        raise ValidationError("Must be postgresql://user:password@host:port/name, percent-encoded.")
    return parsed


@env.parser_for("mail_url")
def parse_mail_url(text: str) -> dict[str, Any]:
    """Parse `smtp://…`, `submission://…` (STARTTLS) or `file:///…` into Django's mail settings.

    `?ssl=true` is TLS from the first byte. Raises ValidationError.
    """
    try:
        parsed = dict(dj_email_url.parse(text))
    except ValueError:
        parsed = {}
    speaks_smtp = text.startswith(("smtp://", "submission://")) and parsed.get("EMAIL_HOST")
    writes_files = text.startswith("file:///") and parsed.get("EMAIL_FILE_PATH")
    if not (speaks_smtp or writes_files):
        raise ValidationError("Must be submission://user:password@host:587 or smtp://host:25, percent-encoded.")
    if writes_files:
        parsed["EMAIL_FILE_PATH"] = f"/{parsed['EMAIL_FILE_PATH']}"
    return parsed


@env.parser_for("origin")
def parse_origin(text: str) -> str:
    """Return the URL of a site without a trailing slash. Raises ValidationError."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValidationError("Must be the URL of the site, such as https://compliance.example.com.")
    return f"{parts.scheme}://{parts.netloc}"


@env.parser_for("own_origin")
def parse_own_origin(text: str) -> str:
    """As `origin`, for calls with keys: https, or plain http to this machine. Raises ValidationError."""
    origin: str = parse_origin(text)
    parts = urlsplit(origin)
    if "@" in parts.netloc or (parts.scheme == "http" and not _is_this_machine(parts.hostname or "")):
        raise ValidationError("Must be a URL such as https://compliance.example.com; http is for this machine alone.")
    return origin


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def describe_bad_settings(error: EnvValidationError) -> str:
    """Return the errors of `env.seal()`, one setting per line, without values."""
    found = error.error_messages
    if isinstance(found, Mapping):  # otherwise from a reader that does not collect
        found = [f"  {name}: {' '.join(errors)}" for name, errors in found.items()]
    return "\n".join(["These settings are missing or wrong (see docs/reference/settings.md):", *found])


env.read_env(str(BASE_DIR / ".env"), recurse=False)
