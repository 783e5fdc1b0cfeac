"""What is owed, and the proof: requests, the claims of workers on them, exports, calls, callbacks, notes."""

from compliance.models.callbacks import Callback
from compliance.models.exports import Export, ExportFile
from compliance.models.heartbeats import Heartbeat
from compliance.models.notes import RequestNote
from compliance.models.notices import Mailbox, Notice
from compliance.models.replays import Replay
from compliance.models.requests import Claim, ComplianceRequest

__all__ = [
    "Callback",
    "Claim",
    "ComplianceRequest",
    "Export",
    "ExportFile",
    "Heartbeat",
    "Mailbox",
    "Notice",
    "Replay",
    "RequestNote",
]
