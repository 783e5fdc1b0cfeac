from compliance import operations
from compliance.management.deciding import DecidingCommand


class Command(DecidingCommand):
    help = "Put a failed request back into the line, with fresh attempts."
    examples = """\
examples:
  manage.py retry_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f

exit codes: 0 done, 2 refused (there is no such request, or it cannot be retried)
"""
    operation = staticmethod(operations.retry)
