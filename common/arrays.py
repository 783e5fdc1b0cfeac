"""Many ids as one parameter of a statement."""

from collections.abc import Iterable
from uuid import UUID


def array(ids: Iterable[int | UUID]) -> str:
    """Return ids as the text of a PostgreSQL array, for `= ANY(%s)` or `%s::bigint[]`.

    psycopg takes a list as well, but looks at each element for what must be quoted: a tenth of the time that a
    claim of requests takes. Numbers and UUIDs never must.
    """
    return f"{{{','.join(map(str, ids))}}}"
