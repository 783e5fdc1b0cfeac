"""Forms as clients send them, put together by hand so that they can also be wrong."""

from typing import Any

from tests.calls import Caller

BOUNDARY = "----boundary-7f3a"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def field(name: str, content: bytes) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content


def file(content: bytes, *, name: str = "photo.jpg", content_type: str = "image/jpeg", field: str = "file") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="{name}"'
    return f"{disposition}\r\nContent-Type: {content_type}\r\n\r\n".encode() + content


def form(*parts: bytes) -> bytes:
    return b"".join(b"--%s\r\n%s\r\n" % (BOUNDARY.encode(), part) for part in parts) + f"--{BOUNDARY}--\r\n".encode()


def send(caller: Caller, number: int, body: bytes, **headers: str) -> Any:
    return caller.post(f"conversations/{number}/files", body, **{"Content_Type": FORM, **headers})
