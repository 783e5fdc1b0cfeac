from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser

from accounts import second_factor
from common.commands import TeachingCommand


class Command(TeachingCommand):
    help = """Take the second factor of a staff user away: app and recovery codes.

For somebody who has lost both, when no superuser can do it in the admin. Be sure who asks. Sessions that it has let
in end. The user logs in with the password alone, and sets a new one up.
"""
    examples = """\
examples:
  manage.py remove_second_factor sam

exit codes: 0 taken away, 1 there is no such user, or they have none
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the name with which the user logs in")

    def handle(self, *_args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError("There is no such user.")
        if not second_factor.remove(user=user, actor="command"):
            raise CommandError("This user has no second factor.")
        self.stdout.write(f"Took the second factor of user {user.pk} away.")
