"""Requests and what belongs to them: claims, exports, redactions, answered calls, callbacks, notes, the ledger."""

from compliance.models.canary import Canary, CanaryTurn
from compliance.models.exports import Export, ExportConversation, ExportFile, LeftCopy
from compliance.models.holds import LegalHold, LegalHoldConversation
from compliance.models.ledger import JournalEntry, LedgerLine, LedgerObject, LineKind, Service
from compliance.models.notes import Replay, RequestNote, RequestSubject
from compliance.models.notifications import Callback, Mailbox, Notice
from compliance.models.redaction import Redaction, RepeatedExport
from compliance.models.requests import ComplianceRequest
from compliance.models.retention import RetentionRun
from compliance.models.workers import Claim, Heartbeat, Occurrence

__all__ = [
    "Callback",
    "Canary",
    "CanaryTurn",
    "Claim",
    "ComplianceRequest",
    "Export",
    "ExportConversation",
    "ExportFile",
    "Heartbeat",
    "JournalEntry",
    "LedgerLine",
    "LedgerObject",
    "LeftCopy",
    "LegalHold",
    "LegalHoldConversation",
    "LineKind",
    "Mailbox",
    "Notice",
    "Occurrence",
    "Redaction",
    "RepeatedExport",
    "Replay",
    "RequestNote",
    "RequestSubject",
    "RetentionRun",
    "Service",
]
