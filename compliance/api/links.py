"""Where to go from an answer that holds a request object."""

from collections.abc import Mapping

from config.openapi.describing import Link

_WAYS = {
    "follow": ("getRequest", "Follow the request until it is final."),
    "download": ("downloadExport", "Fetch the file once the export is completed."),
    "cancel": ("cancelRequest", "Withdraw the request while it waits."),
    "approve": ("approveRequest", "Let it go on if it is on hold."),
    "reject": ("rejectRequest", "End it if it is on hold."),
    "callbacks": ("listCallbacks", "See what you were told of it."),
    "resend": ("resendCallbacks", "Be told again."),
}


def from_request(*names: str, at: str = "") -> Mapping[str, Link]:
    """Return these of _WAYS. `at` is the JSON Pointer of the request object in the answer."""
    pointer = f"$response.body#{at}/request_id"
    return {
        name: Link(operation_id=_WAYS[name][0], parameters={"request_id": pointer}, description=_WAYS[name][1])
        for name in names
    }
