import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from common.commands import TeachingCommand
from compliance.ledger import service
from compliance.ledger.adoption import Adoption, NotAdopted, adopt_new_service

_WHAT = """\
This database becomes a service of its own, with a new id and a ledger of its own, and is opened. This is for copies,
such as one for tests, and cannot be undone. People who were erased in the original since the copy was made are still
in it, and no command finds them here. Backups of before do not know whom this service erases from now on. If it is
the original, restored from a backup, run replay_erasures instead.
"""


class Command(TeachingCommand):
    help = """Give a copy of the database an identity of its own, and open it.

A database that was loaded from a dump, or copied to another server, is closed until it is known what it is. If it
goes its own way beside the original, it needs another id, and its ledger another folder. People who were erased in
the original since the copy was made are still in the copy. It cannot be undone.
"""
    examples = """\
examples:
  manage.py adopt --new-service
  manage.py adopt --new-service --yes --json

First give the copy a bucket of its own (S3_BUCKET), and take away what would reach clients and officers: EMAIL_URL,
access to the internet. Once open, workers carry out what waits in it. It asks for confirmation, unless --yes.

Never run it in the original: backups from before then do not find the ledger that is written from then on.

exit codes: 0 done, 1 not confirmed, or a replay is under way, and nothing was changed
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--new-service", action="store_true", required=True, help="Take on a new identity.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")
        parser.add_argument("--json", action="store_true", help="Print one JSON document.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["yes"]:
            now = f"It is now the service {service.current().service_id}, {service.state().label}."
            self.confirm(f"{_WHAT}{now}", word="new service")
        try:
            adopted = adopt_new_service()
        except NotAdopted as refused:
            raise CommandError(str(refused)) from None
        if options["json"]:
            self.stdout.write(json.dumps(_document(adopted)))
            return
        self.stdout.write(f"This was the service {adopted.original_id}. It is {adopted.service_id} now, and open.")
        self.stdout.write("People who were erased in the original since the copy was made are still here.")
        if adopted.shares_bucket:
            self.stdout.write(
                "The bucket has the original's ledger. If it is the original's bucket, and no copy of it, stop the "
                "workers and set another S3_BUCKET: this service would remove the original's files as they expire."
            )


def _document(adopted: Adoption) -> dict[str, Any]:
    return {
        "service_id": str(adopted.service_id),
        "original_id": str(adopted.original_id),
        "was": adopted.was,
        "state": service.state(),
        "shares_bucket": adopted.shares_bucket,
    }
