"""Tables without data of a chatter, with the reasons: our tables with their free columns, and the exceptions.

A column is free unless its type or its choices limit it to numbers, times, references to rows and a closed list.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Outside(NamedTuple):
    """The reason why a table has no data of a chatter; `columns` are its free columns, separated by spaces."""

    why: str
    columns: str = ""


OUTSIDE: Mapping[str, Outside] = {
    "chatbots.Chatbot": Outside("settings of the client company", "slug name timezone deadline callback_url"),
    "chatbots.Variable": Outside("names of variables; values are in Identity and VariableValue", "name"),
    "chatbots.DigestKey": Outside("identifies DIGEST_KEY; derived from the key alone", "fingerprint"),
    "chatbots.ApiKey": Outside(
        "credentials of the client company", "label prefix secret_encrypted secret_sha256 public_key"
    ),
    "chatbots.CallbackSecret": Outside("signs our calls to the client company", "secret_encrypted"),
    "chatbots.RateLimitWindow": Outside("how many calls a key of the client company has made in a minute"),
    "chatbots.Bucket": Outside(
        "settings of the client company",
        "bucket region prefix endpoint access_key_id secret_encrypted role_arn external_id kms_key_id last_error",
    ),
    "chatbots.BucketCredential": Outside(
        "credentials of the client company; the secret is not stored", "label access_key_id created_by failure"
    ),
    "chatbots.SilentStorage": Outside("that a bucket does not answer; a chatbot and times"),
    "chatbots.Resolver": Outside(
        "the client's own address, and which variables are sent there; times and codes", "url pointer last_error"
    ),
    "chatbots.BucketCheck": Outside(
        "what a check of a bucket has found; permissions, codes and times", "owner steps error"
    ),
    "chatbots.Membership": Outside("staff, not chatters"),
    "accounts.Authenticator": Outside("second factors of staff", "name key secret_encrypted"),
    "accounts.StaffLogin": Outside("staff log-ins", "address"),
    "accounts.LoginFailures": Outside(
        "staff, not chatters: names that no user has share some thousands of counts", "key address"
    ),
    "chatbots.ChangeLogEntry": Outside(
        "closed vocabulary (chatbots.changelog): ids, codes and counts", "event actor data"
    ),
    "compliance.Claim": Outside("which worker works; ids and times", "owner"),
    "compliance.Heartbeat": Outside(
        "which clusters of workers are there; hosts, processes and times", "name version pid_scope"
    ),
    "compliance.Service": Outside("the identity of this service, and whether its database was restored", "server"),
    "compliance.LedgerObject": Outside(
        "which objects the ledger has: their keys, and ids of requests", "key key_prefixes sha256"
    ),
    "compliance.JournalEntry": Outside(
        "what the ledger does not have yet: ids of requests, prefixes of keys", "key_prefix"
    ),
    "compliance.Occurrence": Outside("when the sweep ran, and the like: names of ours, times and numbers"),
    "compliance.Notice": Outside("that officers are to hear of a request or a legal hold; its id, a code and times"),
    "compliance.Mailbox": Outside("what officers were notified of; staff, not chatters", "last_error"),
    "compliance.Canary": Outside(
        "which chatbot the canary has, and its token, encrypted; no client's", "token_encrypted"
    ),
    "compliance.CanaryTurn": Outside(
        "what the canary did, with a chatter that does not exist; ids, times, codes, names of ours, log files",
        "logs trouble_at findings",
    ),
}

# Tables whose columns are not declared one by one.
EXCEPTIONS: Mapping[str, str] = {
    "auth.User": "staff, not chatters",
    "auth.Group": "staff, not chatters",
    "auth.Permission": "names of permissions",
    "auth.User_groups": "staff, not chatters",
    "auth.User_user_permissions": "staff, not chatters",
    "auth.Group_permissions": "names of permissions",
    "contenttypes.ContentType": "names of models",
    "sessions.Session": "staff log-ins; nothing of a chatter is put into a session",
    "admin.LogEntry": "models with personal data in names or rows are read-only in the admin and write no entry",
    "otp_totp.TOTPDevice": "staff, not chatters",
    "otp_static.StaticDevice": "staff, not chatters",
    "otp_static.StaticToken": "digests of staff's recovery codes",
    "django_q.OrmQ": "names of tasks of ours; anything else is dropped unread",
    "django_q.Task": "a task carries no arguments and gives no result; its errors are reduced to our codes",
    "django_q.Schedule": "not used; any row is dropped unread",
}
