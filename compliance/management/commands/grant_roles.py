from typing import Any, ClassVar

from django.core.management.base import CommandParser

from common.commands import TeachingCommand
from compliance import database_rights


class Command(TeachingCommand):
    help = """Give the roles of the web server and of the workers their rights in the database, and no others.

Run it after each migrate, as the role that migrates: it owns the tables. It takes the other rights of both roles, and
of PUBLIC, away. Both roles must exist. It can be run while the service works, and as often as you like.
"""
    examples = """\
examples:
  manage.py grant_roles --web compliance_web --worker compliance_worker
  manage.py grant_roles --web compliance_web --worker compliance_worker --dry-run > grants.sql

docs/operators/database-roles.md says how the roles are made, and which of them each process and command runs as.

exit codes: 0 done, 1 not done: a role is missing or may do more than it should, and nothing was changed
"""

    refusals: ClassVar = {database_rights.NotGranted: 1}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--web", required=True, metavar="ROLE", help="The role of the web server.")
        parser.add_argument("--worker", required=True, metavar="ROLE", help="The role of the workers.")
        parser.add_argument("--dry-run", action="store_true", help="Print the SQL; change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        roles = {"web": options["web"], "worker": options["worker"]}
        if options["dry_run"]:
            self.stdout.write("\n".join(database_rights.statements(**roles)))
            return
        database_rights.grant(**roles)
        self.stdout.write(f"{options['web']} has the rights of the web server, {options['worker']} of the workers.")
