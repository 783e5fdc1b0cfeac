"""Every statement that destroys originals is known here, with the check for legal holds that comes before it.

A new one fails until it is added: either it asks `compliance.work.legal_holds` in its transaction, or it destroys
nothing that a hold can cover. That each check is made is tested by a trigger (`tests.holding`), in every story of the
stress run and the pair matrix.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from compliance.inventory import ReachedBy, stores
from compliance.retention.expiry import EXPIRY, Rows
from conversations.models import Conversation, Identity, Message, UploadedFile, VariableValue

ORIGINALS = (Conversation, Message, Identity, VariableValue, UploadedFile)
_TABLES = "|".join(model._meta.db_table for model in ORIGINALS)
_SQL = re.compile(rf"\b(?:DELETE\s+FROM|UPDATE)\s+(?:(?:{_TABLES})\b|\{{table\}})")
_CHANGES = {"update", "delete", "bulk_update"}
_ROOT = Path(__file__).parents[3]

MARKS = "asks find_held_by_request under intake's lock (`marking._mark_all`)"
MARKED = "of conversations that are marked, or that `rows._lock_unmarked` has let pass"
KEPT = "changes nothing that it would destroy"
KNOWN = {
    "compliance/erasure/marking.py _MARK": MARKS,
    **dict.fromkeys(
        [
            f"compliance/erasure/rows.py {name}"
            for name in (
                *("_HIDE_FILES", "_DELETE_ROWS", "_DELETE_IDENTITIES", "_EMPTY_IDENTITIES", "_FORGET_NAMES"),
                *("_DELETE_MESSAGES", "_EMPTY_CONVERSATIONS", "erase"),
            )
        ],
        MARKED,
    ),
    "compliance/erasure/objects.py _FORGET_FILES": MARKED,
    "compliance/redaction/messages.py empty": "asks find_held under intake's lock (`redaction.engine`)",
    "compliance/retention/due.py _CLOSE": "asks find_held under intake's lock (`due.close`)",
    "compliance/replay/filing.py _MARK": "asks find_held, while the service is closed (`filing.file`)",
    "compliance/erasure/uci_values.py _ERASE": "asks find_held under intake's lock (`uci_values._erase_page`)",
    "conversations/rows.py _UPDATE_CONVERSATIONS": "asks find_under_hold before it closes one (`intake`)",
    "conversations/rows.py _STRENGTHEN": KEPT,
    "conversations/uploads.py open_upload": KEPT,
    "conversations/uploads.py finalise": "of uploads that were not stored",
    "conversations/uploads.py abort": "of uploads that were not stored",
    "compliance/retention/objects.py remove_abandoned_uploads": "of uploads that were not stored",
    **dict.fromkeys(
        ("compliance/digests.py _UPDATE", "compliance/digests.py _UPDATE_FOLLOWING"),
        "computes digests again under another key, those of holds too",
    ),
    **{
        f"compliance/work/call_queue.py {name}": "of calls, not of originals"
        for name in ("_TAKE", "_RECORD", "_DROP")
    },
}


def _statements() -> Iterator[str]:
    names = {model.__name__ for model in ORIGINALS}
    for package in ("chatbots", "common", "compliance", "console", "conversations"):
        for path in sorted((_ROOT / package).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            source = path.read_text()
            lines = source.splitlines()
            for part in ast.parse(source).body:
                found = list(ast.walk(part))
                uses = {one.id for one in found if isinstance(one, ast.Name)}
                uses |= {one.attr for one in found if isinstance(one, ast.Attribute)}
                text = "\n".join(lines[part.lineno - 1 : part.end_lineno])
                if _SQL.search(text) or (uses & names and uses & _CHANGES):
                    yield f"{path.relative_to(_ROOT).as_posix()} {_name_of(part)}"


def _name_of(part: ast.stmt) -> str:
    if isinstance(part, ast.Assign):
        return ast.unparse(part.targets[0])
    return str(getattr(part, "name", None) or ast.unparse(getattr(part, "target", part)))


def test_every_statement_that_destroys_originals_is_known() -> None:
    harmless = {"conversations/merge.py MergedConversation"}  # a set's `update`
    assert set(_statements()) - harmless == set(KNOWN)


def test_originals_that_end_by_age_are_kept_by_a_hold() -> None:
    of_conversations = {store.model for way in (ReachedBy.CONVERSATION, ReachedBy.FILE) for store in stores(way)}
    assert set(ORIGINALS) - {Conversation} <= of_conversations
    for name, rule in EXPIRY.items():
        if isinstance(rule, Rows) and rule.model in ORIGINALS:
            is_of_erased = name == "conversation_digests"
            assert is_of_erased or rule.held, f"{name} ends originals, and asks for no legal hold"
