"""gunicorn's configuration: `gunicorn --config python:config.web_server`, run from the project folder.

Threads read a request while it arrives, so slow clients are the task of the proxy in front (ADR 0064).
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings as ours
from environs import EnvValidationError
from gunicorn import glogging
from gunicorn.config import Config

from common.logs import WithoutRequests, formatter
from config.env import describe_bad_settings

try:
    bind = ours.WEB_BIND  # loads all settings
except EnvValidationError as error:
    raise SystemExit(describe_bad_settings(error)) from None


class Logger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own lines on calls quote them, and its tracebacks whole rows."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.addFilter(WithoutRequests())
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(formatter(ours.LOG_FORMAT))


wsgi_app = "config.wsgi"
workers = ours.WEB_WORKERS
worker_class = "gthread"
threads = ours.WEB_THREADS
backlog = 1024
# Below the usual limit of open files.
worker_connections = 500
# The seconds for which a connection without a call stays open, for clients without a proxy.
keepalive = 20
graceful_timeout = 30
# With jitter, so that processes do not restart at the same time.
max_requests = 10_000
max_requests_jitter = 1_000
# As long as the proxies take it.
limit_request_line = 8190
# The application decides which proxies to trust (config.handler).
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
logger_class = Logger
control_socket_disable = True
