import json
from typing import Any

from django.core.management.base import CommandParser

from chatbots.buckets.locations import access_policy, hosted_place
from chatbots.management.base import credential_as_json, find_chatbot
from chatbots.operations.credentials import NoIam, issue_bucket_credential, record_bucket_credential
from common.commands import ACTOR, ReportingCommand


class Command(ReportingCommand):
    help = """Issue credentials with which a client reads its files in the hosted bucket. The secret is shown once.

Creates an IAM user with the policy that bucket_policy prints, and a key. The key is tried at once: it must read and
list the chatbot's folder and nothing else, or it is removed again. Takes a minute at most. Needs IAM_ACCESS_KEY_ID
and IAM_SECRET_ACCESS_KEY.

Without IAM it prints the policy. Create the user by hand then, and record its key with --made-by-hand.
"""
    examples = """\
examples:
  manage.py issue_bucket_credentials acme --label "Acme's data team"
  manage.py issue_bucket_credentials acme --label "Acme's data team" --json
  manage.py issue_bucket_credentials acme --label "Acme's data team" --made-by-hand AKIAEXAMPLE

A chatbot has two at most, so that a new one can be used before the old one is revoked.

exit codes: 0 issued or recorded, 1 refused, 2 wrong command line
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="the chatbot's slug")
        parser.add_argument("--label", default="", help="a name for the user of the credentials")
        parser.add_argument("--made-by-hand", metavar="KEY_ID", help="record a key that was created in the storage")

    def handle(self, *_args: Any, **options: Any) -> None:
        chatbot, label, key_id = find_chatbot(options["slug"]), options["label"], options["made_by_hand"]
        if key_id is not None:
            credential = record_bucket_credential(chatbot=chatbot, access_key_id=key_id, label=label, actor=ACTOR)
            text = f"Recorded the key {credential.access_key_id} of {chatbot.slug}."
            self.report(credential_as_json(credential), text)
            return
        try:
            new = issue_bucket_credential(chatbot=chatbot, label=label, actor=ACTOR)
        except NoIam:
            policy = access_policy(chatbot=chatbot)
            self.stdout.write(json.dumps({"policy": policy} if self.as_json else policy, indent=2))
            raise
        shown = credential_as_json(new.credential) | {"secret_access_key": new.secret} | hosted_place(chatbot)
        text = f"Issued the key {new.credential.access_key_id} of {chatbot.slug}."
        self.report_secret(shown, text, secret=new.secret)
