"""The demo's output: numbered lines, each a fact that was checked before it is printed."""

import os
import sys
import textwrap
from collections.abc import Iterable

_WIDTH = 104
_INDENT = " " * 7


class CheckFailed(RuntimeError):
    """Something that should be true and is not."""


def require(holds: object, otherwise: str) -> None:
    """Raise CheckFailed with this text unless the condition holds."""
    if not holds:
        raise CheckFailed(otherwise)


class Story:
    def __init__(self) -> None:
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may lack the check mark
        self._number = 0
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def title(self, text: str, explanation: str) -> None:
        print(f"\n {self._coloured(text, '1')}")
        print(textwrap.fill(explanation, _WIDTH, initial_indent=" ", subsequent_indent=" "))

    def chapter(self, text: str) -> None:
        print(f"\n {self._coloured(text, '1')}", flush=True)

    def fact(self, text: str) -> None:
        """Print the next fact, which has been checked."""
        self._number += 1
        lines = textwrap.wrap(text, _WIDTH - len(_INDENT))
        print(f" {self._number:>3} {self._coloured('✓', '32')} {lines[0]}")
        self.show(*lines[1:])

    def show(self, *lines: str) -> None:
        """Print lines below a fact."""
        for line in lines:
            print(_INDENT + line)
        sys.stdout.flush()

    def quote(self, lines: Iterable[str]) -> None:
        """Print lines of a file whole, each broken where the page ends."""
        room = _WIDTH - len(_INDENT) - 2
        for line in lines:
            for start in range(0, len(line), room):
                self.show(("│ " if start == 0 else "  ") + line[start : start + room])

    def error(self, text: str) -> None:
        print(textwrap.fill(f" {self._coloured('✗', '31')} {text}", _WIDTH, subsequent_indent="   "), file=sys.stderr)

    def _coloured(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours else text
