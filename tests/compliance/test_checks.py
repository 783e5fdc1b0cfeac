from django.core.checks.registry import registry

from compliance import checks, inventory


def test_an_undeclared_model_stops_the_start(monkeypatch) -> None:
    assert checks.every_model_is_declared() == []
    monkeypatch.setattr(inventory, "STORES", inventory.STORES[1:])

    (error,) = checks.every_model_is_declared()

    assert error.id == "compliance.E001"


def test_embedded_servers_are_refused_in_production(settings) -> None:
    settings.EMBEDDED_POSTGRES = settings.EMBEDDED_S3 = True
    assert [error.id for error in checks.no_embedded_servers()] == ["compliance.E002", "compliance.E003"]
    settings.EMBEDDED_POSTGRES = settings.EMBEDDED_S3 = False
    assert checks.no_embedded_servers() == []


def test_a_console_without_a_second_factor_causes_a_warning(settings) -> None:
    settings.SECOND_FACTOR_REQUIRED = False
    (warning,) = checks.second_factor_is_required()
    assert (warning.id, "SECOND_FACTOR_REQUIRED" in warning.hint) == ("compliance.W001", True)
    assert checks.second_factor_is_required in registry.deployment_checks
    settings.SECOND_FACTOR_REQUIRED = True
    assert checks.second_factor_is_required() == []
