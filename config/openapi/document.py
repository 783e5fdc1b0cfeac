"""drf-spectacular's settings: title, introduction and tags of the document."""

from typing import Any

VERSION = "1"

# Signs a call in Postman. docs/clients/sign-a-call.md shows the same; a test runs it with the real crypto-js.
PRE_REQUEST_SCRIPT = """\
const timestamp = String(Math.floor(Date.now() / 1000));
const body = pm.variables.replaceIn(pm.request.body.toString());
const signature = CryptoJS.HmacSHA256(timestamp + body, pm.environment.get("secret"));
pm.request.headers.upsert({ key: "X-Mindsay-Timestamp", value: timestamp });
pm.request.headers.upsert({ key: "X-Mindsay-Signature", value: signature.toString() });
"""

INTRODUCTION = f"""\
Stores conversations, and files and follows the two kinds of request about a chatter: **deletion** and **export**. A
request is accepted at once and carried out by workers; its `status_url` shows the progress.

**Authentication.** A *token* (`Authorization: Bearer dca_...`) serves every call that its scopes allow. A *signature*
(`X-Mindsay-Timestamp` and `X-Mindsay-Signature`, over timestamp and body) serves the calls that file requests.

**Errors** are `application/problem+json` (RFC 9457) with a stable `code`. [All codes](/api/docs/errors).

**Every response** has an `X-Trace-ID`, by which we find the call. Responses may get new fields: ignore unknown ones.
Times are RFC 3339 in UTC.

## Signing in Postman

Use this pre-request script, with the secret of a signing key as `secret` in the environment:

```js
{PRE_REQUEST_SCRIPT}```
"""

REQUESTS, CONVERSATIONS, EXTRACTS, CHANGE_LOG = "Requests", "Conversations", "Daily extracts", "Change log"
HOLDS = "Legal holds"

TAGS = [
    {"name": REQUESTS, "description": "Deletions and exports: file them, follow them, fetch the results."},
    {"name": CONVERSATIONS, "description": "Conversations and their files, as the platform sends them."},
    {"name": EXTRACTS, "description": "One CSV per day, for chatbots with extracts enabled."},
    {"name": CHANGE_LOG, "description": "Who did what and when, for a program that collects logs."},
    {"name": HOLDS, "description": "Keep data for a legal matter from every erasure."},
]

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Data Compliance API",
    "VERSION": VERSION,
    "DESCRIPTION": INTRODUCTION,
    "TAGS": TAGS,
    # Relative to where the document is served.
    "SERVERS": [{"url": "/", "description": "This service"}],
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "POSTPROCESSING_HOOKS": [],
    "SORT_OPERATIONS": False,
    # `make check` validates the document more strictly.
    "ENABLE_DJANGO_DEPLOY_CHECK": False,
}
