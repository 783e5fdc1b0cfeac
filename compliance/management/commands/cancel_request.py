from compliance.management.base import DecidingCommand
from compliance.requests.reasons import Decision


class Command(DecidingCommand):
    help = "Withdraw a request that has not begun."
    examples = """\
examples:
  manage.py cancel_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f
  manage.py cancel_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason withdrawn_by_person

exit codes: 0 done, 2 refused (there is no such request, or it has begun)
"""
    decision = Decision.CANCEL
