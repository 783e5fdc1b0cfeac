"""The names of export files.

`chatter_data_exports/<uci value>/<YYYYMMDD>_<HHMMSS>_conversation_export.csv`, the time in UTC; a second file of the
same second ends in `_export_2.csv`. An export by conversation ids is in the folder `!conversations`, which no value
can have: it would be percent-encoded. Copies of uploaded files are beside it, in a folder named like the file with
`_files` in place of `.csv`. In the hosted bucket all this is below the chatbot's slug.
"""

import hashlib
from datetime import UTC, datetime
from urllib.parse import quote

MAX_KEY_BYTES = 900


_BY_CONVERSATIONS = "!conversations"


def export_key(*, prefix: str, value: str | None, at: datetime, number: int = 1) -> str:
    """Return the key of the `number`-th export of a UCI value (None: by conversation ids) in the second of `at`.

    `prefix` is empty, or ends in `/`.
    """
    suffix = "" if number == 1 else f"_{number}"
    file_name = f"{at.astimezone(UTC):%Y%m%d_%H%M%S}_conversation_export{suffix}.csv"
    above = f"{prefix}chatter_data_exports/"
    room = MAX_KEY_BYTES - len(above.encode()) - len(f"/{file_name}")
    folder = _BY_CONVERSATIONS if value is None else _folder(value, room)
    return f"{above}{folder}/{file_name}"


def copy_key(key: str, *, file_id: int) -> str:
    """Return the key of an uploaded file's copy beside the export with this key; it contains no name."""
    return f"{key.removesuffix('.csv')}_files/{file_id}"


def _folder(value: str, room: int) -> str:
    """Percent-encode a value, except ASCII letters, digits and `-_.@`, into at most `room` bytes.

    A longer one ends in the SHA-256 of the whole value, so that two long values have two folders.
    """
    encoded = quote(value, safe="@").replace("~", "%7E")
    if encoded in {".", ".."}:
        # These would name another folder.
        encoded = encoded.replace(".", "%2E")
    if len(encoded) <= room:
        return encoded
    digest = hashlib.sha256(value.encode()).hexdigest()
    kept = encoded[: room - len(digest) - 1]
    # Not in the middle of an escape.
    cut = kept.rfind("%", len(kept) - 2)
    return f"{kept[:cut] if cut >= 0 else kept}-{digest}"
