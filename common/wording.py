"""Words that depend on a number."""


def counted(number: int, noun: str) -> str:
    """Return `1 request`, `2 requests`, `1,000 requests`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
