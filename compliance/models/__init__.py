"""Requests and what belongs to them: claims, exports, redactions, answered calls, callbacks, notes."""

from compliance.models.exports import Export, ExportConversation, ExportFile, LeftCopy
from compliance.models.notes import Replay, RequestNote
from compliance.models.notifications import Callback, Mailbox, Notice
from compliance.models.redaction import Redaction, RepeatedExport
from compliance.models.requests import ComplianceRequest
from compliance.models.retention import RetentionRun
from compliance.models.workers import Claim, Heartbeat, Occurrence

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
    "Redaction",
    "RepeatedExport",
    "Replay",
    "RequestNote",
    "RetentionRun",
]
