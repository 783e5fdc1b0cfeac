#!/usr/bin/env python3
"""Django's commands, with the embedded servers of a development copy around them."""

import os
import sys

# These need no server; every other command may.
WITHOUT_SERVERS = {"help", "version", "check", "collectstatic"}
ASK_ONLY = {"-h", "--help", "--version"}


def main() -> None:
    """Start or join the embedded servers, if the settings ask for them, and run the command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        from django.core.management import execute_from_command_line  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit("Django is not installed here: try `make run`, or activate .venv first.") from error
    from config import embedded  # noqa: PLC0415

    words = sys.argv[1:]
    if words and words[0] not in WITHOUT_SERVERS and not ASK_ONLY & set(words):
        try:
            embedded.start()
        except embedded.EmbeddedError as error:
            raise SystemExit(str(error)) from error
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
