"""The web server's own log lines, in the form of ours: its traceback of a broken answer would quote whole rows."""

import os

from gunicorn import glogging
from gunicorn.config import Config

from common.logs import formatter
from config import env  # noqa: F401  it puts what `.env` says into the environment


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    def setup(self, cfg: Config) -> None:
        """Let gunicorn make its handlers, then have them write as ours do."""
        super().setup(cfg)
        # The settings refuse what is wrong; the first process of the web server never loads them.
        form = os.environ.get("LOG_FORMAT", "line")
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(formatter(form))
