"""IAM users, for people outside who read a part of the bucket: one user for each, with one policy and one key.

IAM is AWS's interface for users; other stores offer the part of it that is used here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from botocore.config import Config
from django.conf import settings

from common.storage import errors, transport
from common.storage.calls import Calls
from common.storage.sessions import core_session

# Where AWS keeps the users, so that a policy of ours can name them. Other stores ignore it.
PATH = "/dca/"
_POLICY = "read-own-files"
_GONE = ("NoSuchEntity",)

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=10, read_timeout=30)


@dataclass(frozen=True)
class AccessKey:
    """A new key. Its secret cannot be fetched again."""

    id: str
    secret: str = field(repr=False)


class IamUsers:
    """The users that the identity of the settings `IAM_*` manages. Raises only StorageError."""

    def __init__(self) -> None:
        self._calls = Calls(explain=errors.of_iam)

    def create(self, name: str) -> None:
        """Create a user without any right. A store that knows boundaries of permissions limits it by ours."""
        boundary = {"PermissionsBoundary": settings.IAM_BOUNDARY_ARN} if settings.IAM_BOUNDARY_ARN else {}
        # A repetition after a lost answer finds the user: the name is not used for anything else.
        with self._calls(passing=["EntityAlreadyExists"]):
            self._client.create_user(UserName=name, Path=PATH, **boundary)

    def grant(self, name: str, policy: Mapping[str, Any]) -> None:
        """Make this the policy of a user."""
        with self._calls():
            self._client.put_user_policy(UserName=name, PolicyName=_POLICY, PolicyDocument=json.dumps(policy))

    def create_key(self, name: str) -> AccessKey:
        with self._calls():
            made = self._client.create_access_key(UserName=name)["AccessKey"]
            return AccessKey(made["AccessKeyId"], made["SecretAccessKey"])

    def remove(self, name: str) -> None:
        """Remove a user with all its keys, which end first. No error if there is none, or only a part of it."""
        for key_id in self._key_ids(name):
            with self._calls(passing=_GONE):
                self._client.delete_access_key(UserName=name, AccessKeyId=key_id)
        with self._calls(passing=_GONE):
            self._client.delete_user_policy(UserName=name, PolicyName=_POLICY)
        with self._calls(passing=_GONE):
            self._client.delete_user(UserName=name)

    def names(self) -> Iterator[str]:
        """Yield the names of the users at PATH; in stores without paths, of all users."""
        with self._calls():
            pages = list(self._client.get_paginator("list_users").paginate(PathPrefix=PATH))
        for page in pages:
            yield from (user["UserName"] for user in page["Users"])

    def _key_ids(self, name: str) -> list[str]:
        # All of them: a store may let users create keys of their own.
        with self._calls(passing=_GONE) as call:
            pages = list(self._client.get_paginator("list_access_keys").paginate(UserName=name))
        return [] if call.code else [key["AccessKeyId"] for page in pages for key in page["AccessKeyMetadata"]]

    @cached_property
    def _client(self) -> Any:
        client = transport.limited_client(
            core_session(),
            "iam",
            endpoint_url=settings.IAM_ENDPOINT_URL,
            region_name=settings.IAM_REGION,
            aws_access_key_id=settings.IAM_ACCESS_KEY_ID,
            aws_secret_access_key=settings.IAM_SECRET_ACCESS_KEY,
            config=_CONFIG,
        )
        client.meta.events.register("before-parse.iam", _recognise_no_iam)
        # A retry after a lost answer would create a second key, and the first would be unknown.
        client.meta.events.register("needs-retry.iam.CreateAccessKey", lambda **_options: False)
        return client


def _recognise_no_iam(response_dict: dict[str, Any], **_options: Any) -> None:
    """Have botocore read the answer of a server without IAM as an error of IAM, whatever its form."""
    is_of_iam = b"<ErrorResponse" in response_dict["body"]
    if response_dict["status_code"] in {404, 405, 501} and not is_of_iam:
        response_dict["body"] = b"<ErrorResponse><Error><Code>NotImplemented</Code></Error></ErrorResponse>"
