"""drf-spectacular's settings: title, introduction and tags of the document."""

from typing import Any

VERSION = "1"

# Signs a call in Postman. docs/api.md shows the same; a test runs it with the real crypto-js.
PRE_REQUEST_SCRIPT = """\
const timestamp = String(Math.floor(Date.now() / 1000));
const body = pm.variables.replaceIn(pm.request.body.toString());
const signature = CryptoJS.HmacSHA256(timestamp + body, pm.environment.get("secret"));
pm.request.headers.upsert({ key: "X-Mindsay-Timestamp", value: timestamp });
pm.request.headers.upsert({ key: "X-Mindsay-Signature", value: signature.toString() });
"""

INTRODUCTION = f"""\
Sends conversations in, and files and follows the two kinds of request about a person who chatted: **deletion** and
**export**. A request is answered at once and carried out by workers; its `status_url` tells how far it is.

**Who is calling.** A *token* (`Authorization: Bearer dca_...`) serves every call that its scopes allow. A *signature*
(`X-Mindsay-Timestamp` and `X-Mindsay-Signature`, over timestamp and body) serves the calls that file requests.

**Errors** are `application/problem+json` (RFC 9457) with a stable `code`. [All codes](/api/docs/errors).

**Every answer** carries `X-Trace-ID`, under which we find the call. Answers may get further fields: ignore those that
you do not know. Times are RFC 3339 in UTC.

## Signing in Postman

As the pre-request script of a call, with the secret of a signing key in the environment as `secret`:

```js
{PRE_REQUEST_SCRIPT}```
"""

REQUESTS, CONVERSATIONS, EXTRACTS = "Requests", "Conversations", "Daily extracts"

TAGS = [
    {"name": REQUESTS, "description": "Deletions and exports: file them, follow them, fetch what they made."},
    {"name": CONVERSATIONS, "description": "What the platform sends in: conversations and their files."},
    {"name": EXTRACTS, "description": "One CSV for each day of a chatbot that has them switched on."},
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
    # `make check` looks at the document more strictly.
    "ENABLE_DJANGO_DEPLOY_CHECK": False,
}
