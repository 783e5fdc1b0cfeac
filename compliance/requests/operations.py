"""Changes of a request's state by people and clients.

API, console and commands each make one call into here. Each operation is one transaction: the request, its
change-log entry, and after commit a nudge to the workers. Changes by workers are in `compliance/work/transitions/`.

    accepted -> processing -> completed | failed       (workers)
    accepted -> on_hold -> accepted | rejected         (workers hold; approve, reject)
    accepted, on_hold -> cancelled                     (cancel; never once a deletion has marked)
    failed -> accepted                                 (retry, at the end of the queue)
"""

from compliance.requests.decisions import (
    NAMES_SOMEBODY,
    approve,
    cancel,
    is_cancellable,
    is_retryable,
    needs_another,
    reject,
    retry,
    retry_all_failed,
)
from compliance.requests.downloads import download_link
from compliance.requests.inputs import RequestInput
from compliance.requests.submit import CONSOLE_GRACE, MAX_BATCH, submit, submit_many

__all__ = [
    "CONSOLE_GRACE",
    "MAX_BATCH",
    "NAMES_SOMEBODY",
    "RequestInput",
    "approve",
    "cancel",
    "download_link",
    "is_cancellable",
    "is_retryable",
    "needs_another",
    "reject",
    "retry",
    "retry_all_failed",
    "submit",
    "submit_many",
]
