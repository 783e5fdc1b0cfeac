"""The names of export files.

`chatter_data_exports/<uci value>/<YYYYMMDD>_<HHMMSS>_conversation_export.csv`, the time in UTC; a second file of
the same second ends in `_export_2.csv`. An export of certain conversations stands in the folder `!conversations`,
which no value has: it would be percent-encoded. Copies of uploaded files stand beside it, in a folder that is named
like the file with `_files` in place of `.csv`. In the hosted bucket this stands below the chatbot's slug.
"""

import hashlib
from datetime import UTC, datetime
from urllib.parse import quote

MAX_KEY_BYTES = 900


_BY_CONVERSATIONS = "!conversations"


def export_key(*, prefix: str, value: str | None, at: datetime, number: int = 1) -> str:
    """Return the key of the `number`-th export of a UCI value in the second of `at`; without one, of conversations.

    `prefix` is what stands before it in the bucket: empty, or ending in `/`.
    """
    suffix = "" if number == 1 else f"_{number}"
    file_name = f"{at.astimezone(UTC):%Y%m%d_%H%M%S}_conversation_export{suffix}.csv"
    above = f"{prefix}chatter_data_exports/"
    room = MAX_KEY_BYTES - len(above.encode()) - len(f"/{file_name}")
    folder = _BY_CONVERSATIONS if value is None else _folder(value, room)
    return f"{above}{folder}/{file_name}"


def copy_key(key: str, *, file_id: int) -> str:
    """Return the key of the copy of an uploaded file beside the export with this key; it holds no name."""
    return f"{key.removesuffix('.csv')}_files/{file_id}"


def _folder(value: str, room: int) -> str:
    """Percent-encode a value outside ASCII letters, digits and `-_.@`, into `room` bytes at most.

    What does not fit ends in the SHA-256 of the whole value, so that two long values have two folders.
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
