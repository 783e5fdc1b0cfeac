from compliance.management.base import DecidingCommand
from compliance.requests.reasons import Decision


class Command(DecidingCommand):
    help = """Extend the deadline of an open request, once and before it has passed.

It is counted anew from the day when the person asked: three months (gdpr), 90 days (ccpa), or twice the days. Tell
the person the reason. The work goes on as before.
"""
    examples = """\
examples:
  manage.py extend_request 0197a2b4-5c1e-7d30-9f10-3a5b7c9d1e2f --reason complexity

exit codes: 0 done, 2 refused (there is no such request, it is final or a retention run, it was extended before, its
deadline has passed, or no reason is given)
"""
    decision = Decision.EXTEND
