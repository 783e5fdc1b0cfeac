"""The WSGI entry point. In a development copy each worker joins the embedded servers."""

import gc
import os

import django

from devservers import control

# Loaded modules stay: a search for garbage in them takes an eighth of the start.
gc.disable()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
control.start()
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402  (needs the environment of the embedded servers)
from django.urls import get_resolver  # noqa: E402  (as above)

from chatbots import digest_key  # noqa: E402  (needs the apps)
from common import former_schema  # noqa: E402  (as above)
from config import database  # noqa: E402
from config.handler import Handler  # noqa: E402
from conversations.placement import distribution  # noqa: E402  (as above)

# A request with a slow statement gets 503 and frees its thread.
database.limit(settings.DATABASES["default"]["OPTIONS"], statement_timeout=settings.WEB_STATEMENT_SECONDS)

# Do not start with a wrong key, or on tables of a former version or distributed in part, only to fail each request.
former_schema.check()
digest_key.check()
distribution.check()

# Load all views now: otherwise the first requests of each process would wait.
_ = get_resolver().url_patterns

application = Handler()
gc.freeze()
gc.enable()
