"""Commands that work on data refuse while the database is a restored one."""

from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command, load_command_class

from chatbots.models import Chatbot
from common.commands import TeachingCommand
from compliance.ledger import commands
from compliance.models import ComplianceRequest
from tests.closed import Reason, State, close
from tests.commands import report


def of_the_project() -> dict[str, str]:
    """Return each command of ours, and its app."""
    return {
        file.stem: app.name
        for app in apps.get_app_configs()
        if Path(app.path).parent == settings.BASE_DIR
        for file in Path(app.path, "management", "commands").glob("[!_]*.py")
    }


def test_each_command_refuses_or_is_listed_with_a_reason() -> None:
    close()
    ours = of_the_project()
    assert commands.MAY_RUN.keys() < ours.keys()

    for name, app in ours.items():
        command = load_command_class(app, name)
        assert isinstance(command, TeachingCommand), name
        if name in commands.MAY_RUN:
            assert len(commands.MAY_RUN[name].split()) > 2, name
            continue
        # Before it looks at any of its arguments.
        with pytest.raises(CommandError, match="restored from a backup") as caught:
            command.execute(force_color=False, no_color=False, skip_checks=True)
        assert caught.value.returncode == commands.CLOSED == 7, name


@pytest.mark.parametrize(
    ("state", "reason", "advice"),
    [
        (State.RESTORED, Reason.OBJECTS_UNKNOWN, "manage.py replay_erasures"),
        (State.RESTORED, Reason.OTHER_SERVER, "manage.py adopt --new-service"),
        (State.CATCHING_UP, Reason.OBJECTS_UNKNOWN, "ends by itself"),
    ],
)
def test_it_says_what_to_do(chatbot: Chatbot, state: State, reason: Reason, advice: str, capsys: Any) -> None:
    close(state, reason)

    with pytest.raises(CommandError, match=advice) as caught:
        call_command("request_deletion", "acme", "member_id", "alice-77", "--json")

    assert (caught.value.returncode, capsys.readouterr().out) == (7, "")
    assert not ComplianceRequest.objects.exists()


def test_what_is_listed_runs(db: None) -> None:
    close()
    assert report("verify_erasure", "--all")["verified"] == 0


def test_the_guide_names_what_runs() -> None:
    """And the exit code of what does not."""
    guide = " ".join((settings.BASE_DIR / "docs" / "operating.md").read_text().split())
    [paragraph] = [part for part in guide.split("**") if "exit code 7. What" in part]
    assert {name for name in commands.MAY_RUN if f"`{name}`" in paragraph} == commands.MAY_RUN.keys()
