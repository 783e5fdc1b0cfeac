"""Values that were stored before their variable became the UCI: deleted by the sweep, once for each designation.

Their conversations have no identity for that UCI, so no deletion by it finds them. Intake stores none once it sees
the designation.
"""

import logging

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from chatbots.models import Variable
from common.db import array, fetch
from common.isolation import Isolation, in_any_order
from compliance.work import legal_holds
from conversations.locks import share_with_intake, wait_for_intake
from conversations.models import VariableValue
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
            left = _erase([pk for pk, owner in variables.items() if owner in ready], isolated)
            Variable.objects.filter(pk__in=variables, chatbot__in=ready - left).update(values_gone_at=Now())


def _erase_page(chatbot_id: int, values: QuerySet[VariableValue]) -> tuple[int, int]:
    """Delete these values of a chatbot; return how many, and how many a legal hold keeps.

    Those expire after its release, like any value. No value of a UCI is stored any more, so these are only the ones
    that were found. Of one chatbot, since rows of several cannot be locked at once where the table is distributed.
    """
    with transaction.atomic():
        share_with_intake(chatbot_id)
        is_held = legal_holds.any_in_force()
        numbers = list(values.values_list("conversation_id", flat=True)) if is_held else []
        held = legal_holds.find_held([chatbot_id], set(numbers))
        # SKIP LOCKED, since two transactions that lock several rows could block each other.
        going = values.exclude(conversation__in=held).order_by("pk").select_for_update(skip_locked=True)
        ids = list(going.values_list("pk", flat=True))
        gone, _ = VariableValue.objects.filter(chatbot=chatbot_id, pk__in=ids).delete()
    return gone, sum(number in held for number in numbers)


def _erase(variables: list[int], isolated: Isolation) -> set[int]:
    """Scan all values; return the chatbots that still have values of these variables."""
    left, failed = set[int](), set[int]()
    after = erased = 0
    while found := fetch(_PAGE, {"after": after, "rows": _ROWS_PER_PAGE, "variables": array(variables)}):
        last = max(number for _, number, _ in found)
        for chatbot_id, _, met in found:
            if met and chatbot_id not in failed:
                page = VariableValue.objects.filter(chatbot=chatbot_id, variable__in=variables)
                failed.add(chatbot_id)
                with isolated.chatbot(chatbot_id):
                    gone, kept = _erase_page(chatbot_id, page.filter(conversation__gt=after, conversation__lte=last))
                    failed.remove(chatbot_id)
                    erased += gone
                    if gone + kept < met:
                        left.add(chatbot_id)
        after = last
    if erased:
        logger.info("uci_values.erased values=%s", erased)
    return left | failed
