"""gunicorn's logger, with our formatter: gunicorn's own tracebacks would quote whole rows."""

import os

from gunicorn import glogging
from gunicorn.config import Config

from common.logs import formatter
from config import env  # noqa: F401  loads `.env`


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        # The settings validate it, but gunicorn's parent process never loads them.
        form = os.environ.get("LOG_FORMAT", "line")
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(formatter(form))
