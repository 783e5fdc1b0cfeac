from compliance.management.base import DecidingCommand
from compliance.requests.reasons import Decision


class Command(DecidingCommand):
    help = (
        "Let a deletion under a legal hold erase what no hold covers. It cannot be undone.\n"
        "The rest is filed again as a request of its own, which waits for the release."
    )
    examples = """\
examples:
  manage.py erase_unheld 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason answer_due

exit codes: 0 done, 2 refused (there is no such request, or no legal hold keeps it)
"""
    decision = Decision.LIMIT
