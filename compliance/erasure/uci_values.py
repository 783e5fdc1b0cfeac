"""Values that were stored before their variable became the UCI: deleted by the sweep, once for each designation.

Their conversations have no identity for that UCI, so no deletion by it finds them. Intake stores none once it sees
the designation.
"""

import logging

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.models import Variable
from common.db import array, fetch
from conversations.locks import await_running

logger = logging.getLogger(__name__)

_ROWS_PER_PAGE = 50_000

# No index leads from a variable to its values: each stored value would pay for a search that is made once. In pages,
# so that no statement takes long. SKIP LOCKED, since two transactions that lock several rows could block each other.
_ERASE_PAGE = """
WITH page AS MATERIALIZED (
    SELECT id, variable_id FROM conversations_variablevalue WHERE id > %(after)s ORDER BY id LIMIT %(rows)s
), met AS MATERIALIZED (
    SELECT id FROM page WHERE variable_id = ANY(%(variables)s::bigint[])
), gone AS (
    DELETE FROM conversations_variablevalue WHERE id = ANY(ARRAY(
        SELECT id FROM conversations_variablevalue WHERE id = ANY(ARRAY(SELECT id FROM met))
         ORDER BY id FOR UPDATE SKIP LOCKED))
    RETURNING id
)
SELECT (SELECT max(id) FROM page), (SELECT count(*) FROM met), (SELECT count(*) FROM gone)
"""


def erase() -> None:
    """Delete the values of present and former UCIs. Reads a few rows if there are none to delete."""
    variables = dict(
        Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), values_gone_at=None).values_list("pk", "chatbot_id")
    )
    if not variables:
        return
    for chatbot_id in set(variables.values()):
        with transaction.atomic():
            # An intake that began before the designation may be about to store one.
            await_running(chatbot_id)
    if _erase(array(variables)):
        Variable.objects.filter(pk__in=variables).update(values_gone_at=Now())


def _erase(variables: str) -> bool:
    """Scan all values; return whether none of these variables is left."""
    after: int | None = 0
    left = erased = 0
    while after is not None:
        page = {"after": after, "rows": _ROWS_PER_PAGE, "variables": variables}
        [(after, met, gone)] = fetch(_ERASE_PAGE, page)
        left += met - gone
        erased += gone
    if erased:
        logger.info("uci_values.erased values=%s", erased)
    return not left
