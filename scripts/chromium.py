"""Debian's Chromium, for tests and pictures of pages."""

import shutil

PACKAGE = "chromium-headless-shell"
INSTALL = f"apt-get install --no-install-recommends {PACKAGE}"
# The browser without its windows takes half the CPU time of the whole one, which does as well.
PROGRAM = shutil.which(PACKAGE) or shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
