"""The web server's entry point; in a development copy each of its workers joins the embedded servers."""

import os

import django

from devservers import control

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
control.start()
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402  (needs the environment that the embedded servers give)
from django.urls import get_resolver  # noqa: E402  (as above)

from chatbots import digest_key  # noqa: E402  (needs the apps)
from config.handler import Handler  # noqa: E402

# A call that asks the database for too much gets 503 and frees its thread.
if settings.WEB_STATEMENT_SECONDS:
    options = settings.DATABASES["default"]["OPTIONS"]
    limit = f"-c statement_timeout={settings.WEB_STATEMENT_SECONDS}s"
    options["options"] = f"{options.get('options', '')} {limit}".strip()

# A server that is started wrongly does not start, rather than fail each call.
digest_key.check()

# Loads all views. Else the first callers of each process would wait for that.
_ = get_resolver().url_patterns

application = Handler()
