"""Hooks for schemathesis: the keys of the chatbot that it calls, and the existing rows.

The process that runs it reads TOKEN, SECRET and WORLD (JSON) from the environment, see test_fuzz.py.
"""

import hashlib
import hmac
import json
import os
import re
import time
import zlib
from typing import Any
from urllib.parse import unquote

import requests
import schemathesis

TOKEN, SECRET = os.environ["TOKEN"], os.environ["SECRET"].encode()
WORLD: dict[str, Any] = json.loads(os.environ["WORLD"])

# Why a body or URL that matches the document is still refused: rules that JSON Schema cannot express, each as the
# pointer and the code of the error.
CANNOT_BE_SAID = {
    ("/from", "too_long"),  # more days than 366 between two parameters
    ("/from", "out_of_range"),  # a month later than that in the other parameter
    ("/cursor", "invalid"),  # it is another conversation's
    *(  # a year before 1970, an offset of 16 hours or more
        (f"/{edge}", code)
        for edge in ("received_after", "received_before", "started_after", "started_before", "since", "until")
        for code in ("out_of_range", "invalid_time")
    ),
    ("/reference", "invalid"),  # it contains the request's value
    ("/requested_at", "invalid"),  # no such day, or too long ago
    ("/review_at", "invalid"),  # no such day, past, or in more than a year
    ("/began_from", "invalid"),  # no such day
    ("/began_before", "invalid"),  # no such day, or not later than the beginning
    ("/matter", "invalid"),  # it contains the value or an id
    ("/callback_url", "invalid"),  # it contains the request's value, or cannot be called
    ("/message_id", "unknown_value"),  # the conversation has other messages
    ("/ids", "invalid"),  # one of them is such a message's
    ("/csat_comment", "invalid"),  # the conversation has none
    ("/message_id", "out_of_order"),  # it comes after the file
}


class Token(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {TOKEN}"
        return request


class Signature(requests.auth.AuthBase):
    """Signs the very bytes that are sent."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        timestamp = str(int(time.time()))
        signed = timestamp.encode() + (body.encode() if isinstance(body, str) else body)
        request.headers["X-Mindsay-Timestamp"] = timestamp
        request.headers["X-Mindsay-Signature"] = hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
        return request


@schemathesis.auth(refresh_interval=None)
class Key:
    """A token; half of the calls that take a signature are signed instead."""

    def get(self, case: Any, _context: Any) -> requests.auth.AuthBase:
        takes_signature = any("signature" in way for way in case.operation.definition.raw["security"])
        return Signature() if takes_signature and zlib.crc32(repr(case.body).encode()) % 2 else Token()

    def set(self, case: Any, key: requests.auth.AuthBase, _context: Any) -> None:
        case._auth = key


@schemathesis.serializer("application/x-ndjson")
def as_it_is(_context: Any, value: Any) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Restrict the document to this chatbot's data: other values are refused correctly."""
    parameters = raw_schema["components"]["parameters"]
    parameters["slug"]["schema"]["enum"] = [WORLD["slug"]]
    for name in ("request_id", "hold_id", "number", "file_id", "day"):
        parameters[name]["schema"]["enum"] = WORLD[name]
        parameters[name]["example"] = WORLD[name][0]
    for schema in raw_schema["components"]["schemas"].values():
        key = schema.get("properties", {}).get("unique_chatter_identifier_key")
        if key is not None:
            key["enum"] = ["member_id", None]
    tokens = raw_schema["components"]["schemas"]["Document"]["properties"]["identity_token"]
    tokens["enum"] = WORLD["identity_tokens"]
    address = raw_schema["components"]["schemas"]["AddressBody"]["properties"]["callback_url"]
    address["enum"] = ["http://127.0.0.1:9/nobody", None]  # it is called
    ids = raw_schema["components"]["schemas"]["RedactionBody"]["properties"]["ids"]
    ids["items"]["enum"] = WORLD["message_ids"]
    for path, cursor in WORLD["cursor"].items():
        for one in raw_schema["paths"][path]["get"]["parameters"]:
            if one.get("name") == "cursor":
                one["schema"]["enum"] = [unquote(cursor)]
                one["example"] = unquote(cursor)


def _field(pointer: str) -> str:
    """Return the pointer of a list of ids for that of one of them."""
    return re.sub(r"^/ids/[0-9]+$", "/ids", pointer)


@schemathesis.hook
def filter_failure(_context: Any, failure: Any, _case: Any, response: Any) -> bool:
    """Drop false failures: calls refused by rules outside the document, documents refused within a response."""
    if response.status_code == 414:
        # From the web server, which reads no URL of that length.
        return False
    match type(failure).__name__:
        case "RejectedPositiveData" if response.status_code == 400:
            faults = {(_field(error["pointer"]), error["code"]) for error in response.json()["errors"]}
            return not faults or not faults <= CANNOT_BE_SAID
        case "AcceptedNegativeData" if response.status_code == 200:
            results = response.json().get("results", [])
            return not any(result.get("outcome") == "refused" or result.keys() == {"error"} for result in results)
    return True
