"""What gunicorn starts with: `gunicorn --config python:config.web.settings`, from the folder of the project."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings as ours
from environs import EnvValidationError

from config.env import describe_bad_settings

try:
    bind = ours.WEB_BIND  # reads them all
except EnvValidationError as error:
    raise SystemExit(describe_bad_settings(error)) from None

wsgi_app = "config.wsgi"
workers = ours.WEB_WORKERS
worker_class = "config.web.worker.Worker"
threads = ours.WEB_THREADS
backlog = 1024
graceful_timeout = 30
# The processes take turns, so that not all of them begin anew at once.
max_requests = 10_000
max_requests_jitter = 1_000
# Its own lines are about processes. None is about a request: the worker class writes no access log.
logger_class = "config.web_logs.Logger"
control_socket_disable = True
