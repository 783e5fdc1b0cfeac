"""This service's identity: its folder of the ledger, its incarnation, and the server that its database is on."""

from typing import Any

from django.apps import apps as all_apps
from django.apps.registry import Apps
from django.db import DEFAULT_DB_ALIAS
from uuid_utils.compat import uuid7

from compliance.models import Service


def remember(*, using: str = DEFAULT_DB_ALIAS, apps: Apps = all_apps, **_: Any) -> None:
    """Give this database an identity unless it has one (receiver of `post_migrate`)."""
    try:
        model = apps.get_model("compliance", "Service")
    except LookupError:
        return  # migrated back to before this table
    model.objects.using(using).bulk_create([model(service_id=uuid7(), incarnation=uuid7())], ignore_conflicts=True)


def current() -> Service:
    """Return the identity, which a database that was emptied gets anew."""
    if (row := Service.objects.first()) is None:
        remember()
        row = Service.objects.get()
    return row
