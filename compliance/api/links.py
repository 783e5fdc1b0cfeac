"""Where to go from an answer that holds a request object."""

from config.openapi.operations import Links, link

_WAYS = {
    "follow": ("getRequest", "Follow the request until it is final."),
    "download": ("downloadExport", "Fetch the file once the export is completed."),
    "cancel": ("cancelRequest", "Withdraw the request while it waits."),
    "approve": ("approveRequest", "Let it go on if it is on hold."),
    "reject": ("rejectRequest", "End it if it is on hold."),
    "callbacks": ("listCallbacks", "See what you were told of it."),
    "resend": ("resendCallbacks", "Be told again."),
}


def from_request(*names: str, at: str = "") -> Links:
    """Return these of _WAYS. `at` is the JSON Pointer of the request object in the answer."""
    pointer = f"$response.body#{at}/request_id"
    return {name: link(_WAYS[name][0], _WAYS[name][1], request_id=pointer) for name in names}
