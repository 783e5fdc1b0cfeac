"""The names of objects that a check of a bucket writes, without data. A check that is killed leaves them there."""

import re
import secrets

# Of the workers: one name, so that what could not be removed, or was left by a kill, is removed by the first check
# that may.
WORKERS = "access_check"
# In a chatbot's folder, in one whose name begins as that does, or in none; `trial` has the endings.
_RANDOM = re.compile(rf"([^/]+[/_])?{WORKERS}_[0-9a-f]{{16}}(/object)?(_written)?")


def new_name() -> str:
    """Return a name that no other check has."""
    return f"{WORKERS}_{secrets.token_hex(8)}"


def is_check(key: str) -> bool:
    """Return whether a key of the hosted bucket is one of a check."""
    return key == WORKERS or _RANDOM.fullmatch(key) is not None
