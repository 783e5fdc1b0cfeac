"""What models share: the text of a row, and their check constraints."""

from typing import Any

from django.db import models
from django.db.models import CheckConstraint
from django.db.models.constraints import BaseConstraint


class Named(models.Model):
    """A row whose text, for the console and for logs, is what it is and its key: nothing personal."""

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"


def checks(**conditions: Any) -> list[BaseConstraint]:
    """Return check constraints: conditions, by the names of the constraints."""
    return [CheckConstraint(name=name, condition=condition) for name, condition in conditions.items()]
