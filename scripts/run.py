"""`make run`: start the web server and the workers of this copy. Ctrl-C stops both."""

import os
import secrets
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Child processes read their settings from the same environment as this script.
ENVIRONMENT = dict(os.environ)

import django  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402

from devservers import control  # noqa: E402
from devservers.processes import is_free  # noqa: E402
from scripts.processes import Processes, exit_on_sigterm, wait_for_http, web_command  # noqa: E402


def main() -> int:
    """Prepare the copy, run web and workers until they end, and return an exit code."""
    exit_on_sigterm()
    address = f"http://127.0.0.1:{settings.PORT}"
    if not is_free(settings.PORT):
        print(f"Port {settings.PORT} is in use: stop the program that listens there, or set PORT.", file=sys.stderr)
        return 1
    try:
        control.start()
    except control.EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    django.setup()
    try:
        call_command("migrate", verbosity=0)
    except CommandError as error:  # made by an older version
        print(error, file=sys.stderr)
        return 1
    if not settings.DEBUG:  # with DEBUG, whitenoise takes them from the apps
        call_command("collectstatic", interactive=False, verbosity=0)
    login = _staff_login(settings.VAR_DIR / "staff-login.txt")

    with Processes() as processes:
        programs = {
            "web": web_command("--log-level", "warning"),
            "worker": [sys.executable, "manage.py", "qcluster"],
        }
        for name, argv in programs.items():
            processes.start(name, argv, ENVIRONMENT, cwd=ROOT)
        try:
            wait_for_http(f"{address}/admin/login/", timeout=60, processes=processes)
        except TimeoutError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"\n  {address}/admin/   {login}\n  Ctrl-C stops it.\n", flush=True)
        return _keep_running(processes, programs)


def _keep_running(processes: Processes, programs: dict[str, list[str]]) -> int:
    """Restart each program that ends, like a process manager, until this script is stopped."""
    while True:
        ended = processes.wait_any()
        if ended:
            name, code = ended
            print(f"{name} ended with code {code} and is restarted.", file=sys.stderr)
            processes.kill(name)
            time.sleep(1)
            processes.start(name, programs[name], ENVIRONMENT, cwd=ROOT)


def _staff_login(path: Path) -> str:
    """Create the superuser `admin` unless there is a superuser, and return how to log in."""
    from django.contrib.auth.models import User  # noqa: PLC0415  needs django.setup()
    from django.db import connections  # noqa: PLC0415

    if not User.objects.filter(is_superuser=True).exists():
        password = secrets.token_urlsafe(12)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"user: admin   password: {password}\n")
        User.objects.create_superuser("admin", password=password)
    connections.close_all()
    if path.exists():
        return path.read_text().strip()
    return "user: a superuser of yours (manage.py changepassword)"


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 0
    sys.exit(code)
