"""Violations planted past the service: each must be found by every driver that checks a site."""

from collections.abc import Sequence

from tests.faults.site import Site
from tests.oracle.model import Conversation, Request

# By the text of the violation. `whole` are conversations without an erasure, `gone` is one that `deletion` has
# erased.
_ROWS = {
    "row left": """
        INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
        SELECT chatbot_id, id, 'left', 'user', 'text', %(word)s, now() FROM conversations_conversation
         WHERE id = %(gone)s
        """,
    "has ['messages', 'its look-up']": """
        INSERT INTO conversations_identitylookup
               (chatbot_id, conversation_id, state, attempts, give_up_at, last_error, finished_at)
        SELECT chatbot_id, id, 'failed', 1, now(), 'no_answer', now() FROM conversations_conversation
         WHERE id = %(gone)s
        """,
    "what is kept differs: csat_score": """
        UPDATE conversations_conversation SET csat_score = abs(csat_score - 1) WHERE id = %(gone)s
        """,
    "the table chatbots_changelogentry has zq": """
        INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, at, data)
        SELECT chatbot_id, request_id, event, %(word)s, at, data FROM chatbots_changelogentry
         WHERE request_id = %(deletion)s AND event = 'request.completed'
        """,
    " messages that were not sent": """
        UPDATE conversations_message SET external_id = 'x' || external_id WHERE conversation_id = {0}
        """,
    " has another language": "UPDATE conversations_conversation SET language = 'fr' WHERE id = {1}",
    " identities, and not the ": "UPDATE conversations_identity SET value = 'x' || value WHERE conversation_id = {2}",
    " has no row any more": "UPDATE conversations_conversation SET chatbot_id = -chatbot_id WHERE id = {3}",
    "deletions count": "UPDATE compliance_compliancerequest SET messages = messages + 1000 WHERE id = %(deletion)s",
}
# Found with these.
_ALSO = ("ended twice", "table conversations_message has zq", "has lost message", "are in the usage")


def rows(site: Site, deletion: Request, gone: Conversation, whole: Sequence[Conversation]) -> list[str]:
    """Change rows past all triggers, and return the expected texts."""
    values = {"gone": gone.number, "deletion": deletion.id, "word": gone.name}
    with site.database.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for statement in _ROWS.values():
            numbers = [conversation.number for conversation in whole]
            changed = connection.execute(statement.format(*numbers), values).rowcount
            assert changed, statement
    return [*_ROWS, *_ALSO]


def objects(site: Site, gone: Conversation, export: Request, upload: Conversation) -> list[str]:
    """Add objects, versions and a log, leave an upload open, and return the expected texts."""
    word = gone.name.encode()
    [(key,)] = site.sql("SELECT key FROM compliance_export WHERE request_id = %s", [export.id])
    # An upload whose answer was lost is sent again, and stored twice.
    [(file,), *_] = site.sql(
        "SELECT object_key FROM conversations_uploadedfile WHERE conversation_id = %s", [upload.number]
    )
    bucket = site.s3.s3.bucket
    with site.keys.client() as s3:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        # A text may have line ends of its own.
        last_line = b'"' + body.rpartition(b'"\n"')[2]
        for name, content in (
            ("uploads/9/left", b"nothing personal"),
            ("elsewhere/left", word),
            ("erasure_ledger/left", word),
            ("erasure_ledger/left", b"nothing personal"),
            (f"{key.rpartition('/')[0]}/20260101_000000_conversation_export.csv", b""),
            (key, body + last_line),
            (file, b"another"),
        ):
            s3.put_object(Bucket=bucket, Key=name, Body=content)
        opened = s3.create_multipart_upload(Bucket=bucket, Key="uploads/left")["UploadId"]
        s3.upload_part(Bucket=bucket, Key="uploads/left", UploadId=opened, PartNumber=1, Body=b"a part")
    (site.folder / "planted.log").write_text(f"somebody said {gone.name}")
    return [
        *("reconcile_storage reports", "an object in another folder has zq", "in erasure_ledger has zq"),
        *("belongs to no export", "a doubled line", "its sha256 or size differs", "is not as it was sent"),
        *("multipart uploads are open", "the log planted.log has zq"),
    ]


def untold(told: Sequence[str], lines: Sequence[str]) -> list[str]:
    return [each for each in told if not any(each in line for line in lines)]
