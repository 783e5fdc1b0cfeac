"""Make one call to a resolver, signed and guarded (`common.guarded_calls`), and read its answer.

No content of the call or the answer is logged, and the answer is dropped as soon as its value is read.
"""

import json
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from chatbots.callback_secrets import Signers
from chatbots.models import uci_value_fault
from common import outbound
from common.bodies import parse_json
from common.guarded_calls import Answer, CallFailure, GuardedPost
from common.logs import describe_kind
from common.problems import Problem
from compliance.work.call_queue import Call
from conversations.models import IdentityLookup

logger = logging.getLogger(__name__)

Failure = IdentityLookup.Failure


@dataclass(frozen=True)
class LookupResult:
    """The result of a call: a value, no value (`is_unknown`), or nothing usable (`error`).

    `is_final` is False if another attempt can help. `status` is that of the answer, if one came.
    """

    value: str | None = field(default=None, repr=False)
    is_unknown: bool = False
    error: Failure | None = None
    is_final: bool = True
    status: int | None = None


def call_to(
    url: str,
    *,
    pointer: str,
    conversation_id: str,
    variables: Mapping[str, str],
    signers: Signers,
    tls: ssl.SSLContext,
) -> Call[LookupResult]:
    """Return a call to a resolver, not begun.

    Each attempt is a message of its own: a receiver that drops repeated messages would not answer it.
    """

    def read_safely(answer: Answer) -> LookupResult:
        if answer.kind:
            logger.warning("lookup.bad_answer kind=%s", answer.kind)
        try:
            return read(answer, pointer=pointer)
        except Exception as error:  # any error concerns only this answer, and must not end the turn of others
            logger.error("lookup.unreadable kind=%s", describe_kind(error))  # noqa: TRY400  (its text may quote it)
            return LookupResult(error=Failure.BAD_ANSWER, status=answer.status)

    post = GuardedPost(
        url,
        seconds=outbound.LOOKUP_SECONDS,
        answer_bytes=outbound.LOOKUP_ANSWER_BYTES,
        body_bytes=outbound.LOOKUP_BODY_BYTES,
        is_whole=True,
        tls=tls,
    )
    sent = {"type": "identity.lookup", "conversation_id": conversation_id, "variables": dict(variables)}
    agent, body = "data-compliance-lookups/1", json.dumps(sent).encode()
    return Call(post, agent=agent, message_id=uuid4(), body=body, signers=signers, read=read_safely)


def read(answer: Answer, *, pointer: str) -> LookupResult:
    """Return the result in an answer."""
    status = answer.status
    if status == HTTPStatus.NOT_FOUND:
        return LookupResult(is_unknown=True, status=status)
    if status is not None and status != HTTPStatus.OK:
        return LookupResult(error=Failure.BAD_STATUS, is_final=False, status=status)
    if answer.failure is not None:
        # An answer that is too long will be too long again; its head alone does not show that.
        is_final = status is not None and answer.failure is CallFailure.TOO_LONG
        return LookupResult(error=Failure(answer.failure), is_final=is_final, status=status)
    try:
        document = parse_json(answer.body)
    except Problem:
        return LookupResult(error=Failure.NOT_JSON, status=status)
    return _value_of(document, pointer, status)


def _value_of(document: Any, pointer: str, status: int | None) -> LookupResult:
    try:
        found = _resolve_pointer(document, pointer)
    except LookupError:
        return LookupResult(error=Failure.NO_VALUE, status=status)
    if found is None:
        return LookupResult(is_unknown=True, status=status)
    if not isinstance(found, str):
        return LookupResult(error=Failure.NOT_TEXT, status=status)
    if uci_value_fault(found):
        return LookupResult(error=Failure.BAD_VALUE, status=status)
    return LookupResult(value=found, status=status)


def _resolve_pointer(document: Any, pointer: str) -> Any:
    """Return the value in a document at a JSON Pointer (RFC 6901). Raises LookupError."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        match document:
            case dict():
                document = document[name]
            case list() if name == "0" or (name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 6):
                document = document[int(name)]
            case _:
                raise LookupError
    return document
