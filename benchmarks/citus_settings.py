"""The settings of the service, with the database of BENCHMARK_DATABASE_URL."""

import os

from psycopg.conninfo import conninfo_to_dict

from config.settings import *  # noqa: F403
from config.settings import DATABASES

_found = conninfo_to_dict(os.environ["BENCHMARK_DATABASE_URL"])
DATABASES["default"] |= {
    "NAME": _found["dbname"],
    "HOST": _found["host"],
    "PORT": _found["port"],
    "USER": _found["user"],
    "PASSWORD": _found.get("password", ""),
}
