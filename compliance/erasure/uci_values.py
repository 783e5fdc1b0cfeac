"""Values that were stored before their variable became the UCI: deleted by the sweep, once for each designation.

Their conversations have no identity for that UCI, so no deletion by it finds them. Intake stores none once it sees
the designation.
"""

import logging
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from chatbots.models import Variable
from common.db import array, execute, fetch
from common.isolation import Isolation, in_any_order
from compliance.work import legal_holds
from conversations.locks import share_with_intake, wait_for_intake
from conversations.placement import machines

logger = logging.getLogger(__name__)

_ROWS_PER_PAGE = 50_000

# There is no index from a variable to its values: each stored value would pay for a search that is made once. In
# pages, so that no statement takes long, and in the order of an index that contains all that is read.
_PAGE = """
WITH page AS MATERIALIZED (
    SELECT chatbot_id, conversation_id, variable_id FROM conversations_variablevalue
     WHERE conversation_id > %(after)s
     ORDER BY conversation_id FETCH FIRST %(rows)s ROWS WITH TIES
)
SELECT chatbot_id, max(conversation_id), count(*) FILTER (WHERE variable_id = ANY(%(variables)s::bigint[]))
  FROM page GROUP BY chatbot_id
"""
# Of one chatbot, since rows of several cannot be locked at once where the table is distributed. No value of a UCI is
# stored any more, so the page contains only values that were found. SKIP LOCKED, since two transactions that lock
# several rows could block each other.
_ERASE = """
DELETE FROM conversations_variablevalue WHERE chatbot_id = %(chatbot)s AND id = ANY(ARRAY(
       SELECT id FROM conversations_variablevalue
        WHERE chatbot_id = %(chatbot)s AND conversation_id > %(after)s AND conversation_id <= %(last)s
          AND variable_id = ANY(%(variables)s::bigint[]) AND conversation_id <> ALL(%(held)s::bigint[])
        ORDER BY id FOR UPDATE SKIP LOCKED))
"""
# A legal hold keeps them. They expire after its release, like any value.
_MET = """
SELECT conversation_id, count(*) FROM conversations_variablevalue
 WHERE chatbot_id = %(chatbot)s AND conversation_id > %(after)s AND conversation_id <= %(last)s
   AND variable_id = ANY(%(variables)s::bigint[])
 GROUP BY 1
"""


def erase() -> None:
    """Delete the values of present and former UCIs. Reads a few rows if there are none to delete.

    All machines have to answer: each has a copy of the record that the values of a variable are gone.
    Raises PartsFailed after all chatbots.
    """
    if machines.any_silent():
        return
    variables = dict(
        Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), values_gone_at=None).values_list("pk", "chatbot_id")
    )
    with Isolation() as isolated:
        ready = set[int]()
        for chatbot_id in in_any_order(set(variables.values())):
            with isolated.chatbot(chatbot_id), transaction.atomic():
                # An intake that began before the designation may be about to store one.
                wait_for_intake(chatbot_id)
                ready.add(chatbot_id)
        if ready:
            left = _erase(array(pk for pk, owner in variables.items() if owner in ready), isolated)
            Variable.objects.filter(pk__in=variables, chatbot__in=ready - left).update(values_gone_at=Now())


def _erase_page(page: dict[str, Any]) -> tuple[int, int]:
    """Delete the values of a page; return how many, and how many a legal hold keeps."""
    with transaction.atomic():
        share_with_intake(page["chatbot"])
        values_of = dict(fetch(_MET, page)) if legal_holds.any_in_force() else {}
        held = legal_holds.find_held([page["chatbot"]], values_of)
        gone = execute(_ERASE, page | {"held": array(held)})
    return gone, sum(values_of[number] for number in held)


def _erase(variables: str, isolated: Isolation) -> set[int]:
    """Scan all values; return the chatbots that still have values of these variables."""
    left, failed = set[int](), set[int]()
    after = erased = 0
    while found := fetch(_PAGE, {"after": after, "rows": _ROWS_PER_PAGE, "variables": variables}):
        last = max(number for _, number, _ in found)
        for chatbot_id, _, met in found:
            if met and chatbot_id not in failed:
                page = {"chatbot": chatbot_id, "after": after, "last": last, "variables": variables}
                failed.add(chatbot_id)
                with isolated.chatbot(chatbot_id):
                    gone, kept = _erase_page(page)
                    failed.remove(chatbot_id)
                    erased += gone
                    if gone + kept < met:
                        left.add(chatbot_id)
        after = last
    if erased:
        logger.info("uci_values.erased values=%s", erased)
    return left | failed
