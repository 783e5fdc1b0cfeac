from compliance.management.base import DecidingCommand
from compliance.requests.reasons import Decision


class Command(DecidingCommand):
    help = "End a request that is on hold without carrying it out."
    examples = """\
examples:
  manage.py reject_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason identity_not_confirmed
  manage.py reject_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason legal_claims --note - < note.txt

exit codes: 0 done, 1 the reason is missing or unknown, 2 refused (there is no such request, or it is not on hold)
"""
    decision = Decision.REJECT
