"""Record when something last happened that no other row records. All times are the database's."""

from datetime import datetime
from typing import NamedTuple

from common.db import execute, fetch_one
from compliance.models import Occurrence

Name = Occurrence.Name

_NOTE = """
INSERT INTO compliance_occurrence AS known (name, last_at, times) VALUES (%s, statement_timestamp(), %s)
ON CONFLICT (name) DO UPDATE SET last_at = excluded.last_at, times = known.times + excluded.times
"""
_IS_DUE = """
INSERT INTO compliance_occurrence AS known (name, asked_at, times) VALUES (%s, statement_timestamp(), 0)
ON CONFLICT (name) DO UPDATE SET asked_at = excluded.asked_at
 WHERE known.asked_at IS NULL OR known.asked_at NOT BETWEEN statement_timestamp() - make_interval(secs => %s)
                                                        AND statement_timestamp() + make_interval(secs => %s)
RETURNING name
"""
_FORGET = "UPDATE compliance_occurrence SET last_at = NULL WHERE name = %s"
_GIVE_BACK = "UPDATE compliance_occurrence SET asked_at = NULL WHERE name = %s"


class Last(NamedTuple):
    """When it was last asked for, when it last happened, and how often it has."""

    asked_at: datetime | None
    last_at: datetime | None
    times: int


def note(name: Name, *, times: int = 1) -> None:
    execute(_NOTE, [name, times])


def forget(name: Name) -> None:
    """Forget when it last happened: it is over."""
    execute(_FORGET, [name])


def ask(name: Name, *, every: float) -> bool:
    """Return True to one caller only, once every `every` seconds."""
    # A time that is far ahead was that of another server, whose clock was: the database was restored, or moved.
    return fetch_one(_IS_DUE, [name, every, every]) is not None


def give_back(name: Name) -> None:
    """Let the next caller of `ask` have it at once."""
    execute(_GIVE_BACK, [name])


def last() -> dict[Name, Last]:
    """Return the last of each, including those that never happened."""
    rows = Occurrence.objects.values_list("name", "asked_at", "last_at", "times")
    known = {Name(name): Last(asked_at, last_at, times) for name, asked_at, last_at, times in rows}
    return dict.fromkeys(Name, Last(None, None, 0)) | known
