from compliance import operations
from compliance.management.deciding import DecidingCommand
from compliance.reasons import Decision


class Command(DecidingCommand):
    help = "Put a failed request back into the line, with fresh attempts."
    examples = """\
examples:
  manage.py retry_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f
  manage.py retry_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason cause_mended

exit codes: 0 done, 2 refused (there is no such request, or it cannot be retried)
"""
    decision = Decision.RETRY
    operation = staticmethod(operations.retry)
