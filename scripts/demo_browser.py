"""The browser of the demo's staff member. Standard library only."""

import re
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar, DefaultCookiePolicy


class Browser:
    """A browser in which a staff user is logged in to the admin."""

    def __init__(self, address: str, *, user: str, password: str) -> None:
        self._address = address
        # As browsers do on the machine itself, where there is no HTTPS.
        cookies = CookieJar(DefaultCookiePolicy(secure_protocols=("http", "https")))
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        _, page = self.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        form = {"username": user, "password": password, "csrfmiddlewaretoken": token[1] if token else ""}
        self._open("/admin/login/", urllib.parse.urlencode(form).encode())

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the text of a page."""
        return self._open(path, None)

    def _open(self, path: str, form: bytes | None) -> tuple[int, str]:
        return _open(self._opener, urllib.request.Request(self._address + path, form))  # noqa: S310  an http address


def _open(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> tuple[int, str]:
    """Return status and text, of an error too."""
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
