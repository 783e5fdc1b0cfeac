"""The web server's entry point; in a development copy each of its workers joins the embedded servers."""

import os

import django

from config import embedded

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
embedded.start()
django.setup(set_prefix=False)

from config.handler import Handler  # noqa: E402  (needs the apps)

application = Handler()
