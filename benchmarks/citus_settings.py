"""The settings of the service, with the database whose URL stands in BENCHMARK_DATABASE_URL."""

from config.env import env
from config.settings import *  # noqa: F403
from config.settings import DATABASES

DATABASES["default"] |= env.postgres_url("BENCHMARK_DATABASE_URL") or {}
