import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.checks import INFO
from django.core.checks.registry import registry

from chatbots.models import Chatbot
from compliance import checks


def test_embedded_servers_are_refused_in_production(settings) -> None:
    settings.EMBEDDED_POSTGRES = settings.EMBEDDED_S3 = True
    assert [error.id for error in checks.no_embedded_servers()] == ["compliance.E002", "compliance.E003"]
    settings.EMBEDDED_POSTGRES = settings.EMBEDDED_S3 = False
    assert list(checks.no_embedded_servers()) == []


def test_an_identity_for_iam_is_apart_and_only_where_it_is_used(settings) -> None:
    def found(**changes: object) -> list[str]:
        for name, value in (APART | changes).items():
            setattr(settings, name, value)
        return [str(problem.id) for problem in checks.iam_identity_is_apart()]

    assert checks.iam_identity_is_apart in registry.deployment_checks
    assert found() == []
    assert found(IAM_ACCESS_KEY_ID="", IAM_SECRET_ACCESS_KEY="", IAM_CONSOLE=False) == []
    assert found(IAM_SECRET_ACCESS_KEY="") == ["compliance.E005"]
    assert found(S3_ACCESS_KEY_ID="AKIAIAM") == ["compliance.E006"]
    assert found(IAM_CONSOLE=False) == ["compliance.W003"]
    assert found(IAM_ACCESS_KEY_ID="", IAM_SECRET_ACCESS_KEY="") == ["compliance.W005"]
    assert found(IAM_BOUNDARY_ARN="") == ["compliance.W004"]
    assert found(IAM_BOUNDARY_ARN="", IAM_ENDPOINT_URL="https://s3.example.com") == []


APART = {
    "S3_ACCESS_KEY_ID": "AKIAS3",
    "IAM_ACCESS_KEY_ID": "AKIAIAM",
    "IAM_SECRET_ACCESS_KEY": "a-secret",
    "IAM_ENDPOINT_URL": None,
    "IAM_BOUNDARY_ARN": "arn:aws:iam::123456789012:policy/dca-boundary",
    "IAM_CONSOLE": True,
}


def test_a_short_hsts_is_information(settings: Any) -> None:
    def found(seconds: int) -> list[tuple[str, int]]:
        settings.SECURE_HSTS_SECONDS = seconds
        return [(str(problem.id), problem.level) for problem in checks.hsts_can_be_raised()]

    assert checks.hsts_can_be_raised in registry.deployment_checks
    assert found(3_600) == [("compliance.I001", INFO)]
    assert found(0) == found(31_536_000) == []


def test_backups_that_outlive_the_ledger_are_refused(settings: Any) -> None:
    def found(backups: int, ledger: int) -> list[str]:
        settings.BACKUP_HORIZON_DAYS, settings.ERASURE_LEDGER_DAYS = timedelta(days=backups), timedelta(days=ledger)
        return [str(problem.id) for problem in checks.ledger_outlives_backups()]

    assert checks.ledger_outlives_backups in registry.deployment_checks
    assert found(90, 90) == []
    assert found(91, 90) == ["compliance.E009"]


def test_a_console_without_a_second_factor_causes_a_warning(settings) -> None:
    settings.SECOND_FACTOR_REQUIRED = False
    (warning,) = checks.second_factor_is_required()
    assert (warning.id, "SECOND_FACTOR_REQUIRED" in warning.hint) == ("compliance.W001", True)
    assert checks.second_factor_is_required in registry.deployment_checks
    settings.SECOND_FACTOR_REQUIRED = True
    assert list(checks.second_factor_is_required()) == []


def test_hosted_files_that_outlive_the_shortest_retention_period_are_refused(chatbot, neighbour, settings) -> None:
    def found(**periods: int | None) -> list[str]:
        Chatbot.objects.filter(pk=chatbot.pk).update(retention_days=periods.get("ours"))
        Chatbot.objects.filter(pk=neighbour.pk).update(retention_days=periods.get("theirs"))
        problems = checks.retention_outlives_hosted_files(databases=["default"])
        return [str(problem.id) for problem in problems]

    assert checks.retention_outlives_hosted_files in registry.deployment_checks
    assert found(ours=90, theirs=365) == []
    settings.HOSTED_FILE_DAYS = timedelta(days=180)
    assert found() == []
    assert found(ours=365, theirs=180) == [], "no extracts"
    Chatbot.objects.update(extracts_enabled=True)
    assert found(ours=365) == []
    assert found(ours=365, theirs=180) == ["compliance.E007"]
    assert checks.retention_outlives_hosted_files(databases=None) == []


def test_each_check_has_an_id_of_its_own() -> None:
    ids = re.findall(r'id="(compliance\.\w+)"', Path(checks.__file__).read_text())
    assert len(ids) == len(set(ids)) > 8
