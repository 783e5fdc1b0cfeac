#!/usr/bin/env python3
"""Django's commands, with the embedded servers of a development copy around them."""

import gc
import os
import sys

# These need no server; every other command may.
WITHOUT_SERVERS = {"help", "version", "check", "collectstatic"}
ASK_ONLY = {"-h", "--help", "--version"}


def main() -> None:
    """Start or join the embedded servers, if the settings ask for them, and run the command."""
    # What is loaded stays: to look for garbage in it takes an eighth of a start.
    gc.disable()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        import django  # noqa: PLC0415
        from django.core.management import execute_from_command_line  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit("Django is not installed here: try `make run`, or activate .venv first.") from error
    from django.conf import settings  # noqa: PLC0415
    from django.db import Error as DatabaseError  # noqa: PLC0415
    from environs import EnvValidationError  # noqa: PLC0415

    from common.database_errors import describe_database_error  # noqa: PLC0415
    from common.logs import log_last_errors  # noqa: PLC0415
    from config.env import describe_bad_settings  # noqa: PLC0415
    from devservers import control  # noqa: PLC0415

    try:
        _ = settings.DEBUG  # reads them all
    except EnvValidationError as error:
        raise SystemExit(describe_bad_settings(error)) from None
    if settings.LOG_FORMAT == "json":
        log_last_errors()
    words = sys.argv[1:]
    if words and words[0] not in WITHOUT_SERVERS and not ASK_ONLY & set(words):
        try:
            control.start()
        except control.EmbeddedError as error:
            raise SystemExit(str(error)) from error
    django.setup()
    gc.freeze()
    gc.enable()
    try:
        execute_from_command_line(sys.argv)
    except DatabaseError as error:
        # Uncaught, Python would print it, and PostgreSQL quotes whole rows in it.
        if "--traceback" in words:
            raise
        told = describe_database_error(error)
        if told.startswith("SQLSTATE 42501"):
            raise SystemExit(
                f"The role of DATABASE_URL lacks a right: {told}. docs/reference/commands.md names the role of each "
                "command. If it is that one: was grant_roles run after the last migrate?"
            ) from None
        raise SystemExit(
            f"The database refused or cannot be reached: {told}. "
            "Is it up, is DATABASE_URL right, is it migrated? --traceback shows everything, including personal data."
        ) from None


if __name__ == "__main__":
    main()
