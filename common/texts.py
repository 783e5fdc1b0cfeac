"""Short texts of ours, as pages show them."""

import re

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString


def with_code(text: str) -> SafeString:
    """Return a text with what stands between backticks as code."""
    parts = re.split(r"`([^`]*)`", text)
    pairs = zip(parts[::2], [*parts[1::2], ""], strict=True)
    return format_html_join(
        "", "{}{}", ((plain, format_html("<code>{}</code>", code) if code else "") for plain, code in pairs)
    )
