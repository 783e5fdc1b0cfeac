"""What models share: the text of a row, and a constraint."""

from collections.abc import Sequence

from django.db import models
from django.db.models import CheckConstraint, Q


class Named(models.Model):
    """A row whose text, for the console and for logs, is what it is and its key: nothing personal."""

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"


def one_of(name: str, **values: Sequence[str]) -> CheckConstraint:
    """Return the constraint that the given field has one of its values."""
    return CheckConstraint(name=name, condition=Q(**{f"{field}__in": known for field, known in values.items()}))
