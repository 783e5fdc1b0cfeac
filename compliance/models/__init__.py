"""Requests and what belongs to them: claims, exports, remaining copies, answered calls, callbacks, notes."""

from compliance.models.callbacks import Callback
from compliance.models.exports import Export, ExportConversation, ExportFile, LeftCopy
from compliance.models.heartbeats import Heartbeat
from compliance.models.notes import RequestNote
from compliance.models.notices import Mailbox, Notice
from compliance.models.occurrences import Occurrence
from compliance.models.replays import Replay
from compliance.models.requests import Claim, ComplianceRequest

__all__ = [
    "Callback",
    "Claim",
    "ComplianceRequest",
    "Export",
    "ExportConversation",
    "ExportFile",
    "Heartbeat",
    "LeftCopy",
    "Mailbox",
    "Notice",
    "Occurrence",
    "Replay",
    "RequestNote",
]
