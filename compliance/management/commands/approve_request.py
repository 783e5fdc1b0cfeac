from compliance.management.base import DecidingCommand
from compliance.requests.reasons import Decision


class Command(DecidingCommand):
    help = (
        "Let a request that is on hold go on, past whatever held it, or approve a waiting one in advance (four eyes)."
    )
    examples = """\
examples:
  manage.py approve_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f
  manage.py approve_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason verified_with_client

exit codes: 0 done, 2 refused (there is no such request, or it is not on hold)
"""
    decision = Decision.APPROVE
