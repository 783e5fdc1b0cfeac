"""A copy of the service for one script: its own folder, servers and keys, independent of the environment.

Call `begin` before Django is imported, since settings read the environment once.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.processes import Processes, free_port, wait_for_http, web_command

ROOT = Path(__file__).resolve().parent.parent

# Prefixes of settings that would point to other servers than the copy's own.
_FOREIGN = ("DATABASE_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "ENCRYPTION_KEYS", "DIGEST_KEY", "SECURE_", "S3_")


def begin(var_dir: Path) -> dict[str, str]:
    """Set this process's environment to that of the copy, and return it for child processes."""
    for variable in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[variable]
    os.environ |= {"DJANGO_SETTINGS_MODULE": "config.settings", "VAR_DIR": str(var_dir)}
    return dict(os.environ)


def foreign_settings() -> list[str]:
    """Return the settings in `.env` that would point to other servers than the copy's own."""
    file = ROOT / ".env"
    names = {line.partition("=")[0].strip() for line in file.read_text().splitlines()} if file.exists() else set()
    return sorted(name for name in names if name.startswith(_FOREIGN))


@contextmanager
def servers(var_dir: Path) -> Iterator[None]:
    """Empty the copy's folder and start the embedded servers there; child processes join them."""
    import django  # noqa: PLC0415  after `begin`
    from django.db import connections  # noqa: PLC0415  as above

    from devservers import control  # noqa: PLC0415  as above

    shutil.rmtree(var_dir, ignore_errors=True)
    var_dir.mkdir(parents=True)
    try:
        control.start()
        django.setup()
        yield
    finally:
        connections.close_all()
        control.stop()


def start_web_and_worker(processes: Processes, environment: dict[str, str], var_dir: Path) -> str:
    """Start a web server and a cluster, wait until the web server answers, and return its address."""
    address = f"127.0.0.1:{free_port()}"
    bound = environment | {"WEB_BIND": address}
    processes.start("web", web_command(), bound, cwd=ROOT, log=var_dir / "web.log")
    worker = [sys.executable, "manage.py", "qcluster"]
    processes.start("worker", worker, environment, cwd=ROOT, log=var_dir / "worker.log")
    wait_for_http(f"http://{address}/admin/login/", timeout=60, processes=processes)
    return f"http://{address}"
