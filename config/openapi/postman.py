"""The script that signs a call in Postman and in programs that run its scripts. docs/api.md shows the same.

A test runs it with the real crypto-js.
"""

PRE_REQUEST_SCRIPT = """\
const timestamp = String(Math.floor(Date.now() / 1000));
const body = pm.variables.replaceIn(pm.request.body.toString());
const signature = CryptoJS.HmacSHA256(timestamp + body, pm.environment.get("secret"));
pm.request.headers.upsert({ key: "X-Mindsay-Timestamp", value: timestamp });
pm.request.headers.upsert({ key: "X-Mindsay-Signature", value: signature.toString() });
"""
