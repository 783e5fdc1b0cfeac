"""The base of models without a text of their own."""

from django.db import models


class Named(models.Model):
    """A row whose text, for the console and for logs, is what it is and its key: nothing personal."""

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} {self.pk}"
