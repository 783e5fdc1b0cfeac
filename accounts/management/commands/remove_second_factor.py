from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser

from accounts import second_factor
from common.commands import ACTOR, TeachingCommand


class Command(TeachingCommand):
    help = """Remove the second factor of a staff user: app and recovery codes.

For a user who has lost both, if no superuser can do it in the console. Verify who asks. Sessions with this second
factor end. The user logs in with the password alone and sets up a new one.
"""
    examples = """\
examples:
  manage.py remove_second_factor sam

exit codes: 0 removed, 1 unknown user or no second factor
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the user name")

    def handle(self, *_args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError("Unknown user.")
        if not second_factor.remove(user=user, actor=ACTOR):
            raise CommandError("This user has no second factor.")
        self.stdout.write(f"Removed the second factor of user {user.pk}.")
