"""gunicorn's configuration: `gunicorn --config python:config.web.settings`, run from the project folder."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings as ours
from environs import EnvValidationError

from config.env import describe_bad_settings

try:
    bind = ours.WEB_BIND  # loads all settings
except EnvValidationError as error:
    raise SystemExit(describe_bad_settings(error)) from None

wsgi_app = "config.wsgi"
workers = ours.WEB_WORKERS
worker_class = "config.web.worker.Worker"
threads = ours.WEB_THREADS
backlog = 1024
graceful_timeout = 30
# With jitter, so that processes do not restart at the same time.
max_requests = 10_000
max_requests_jitter = 1_000
# gunicorn logs processes only: the worker class writes no access log.
logger_class = "config.web.worker.Logger"
control_socket_disable = True
