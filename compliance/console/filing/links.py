"""Addresses of pages beside these."""

from uuid import UUID

from django.urls import NoReverseMatch, reverse


def request_page(request_id: UUID) -> str:
    """Return the address of a request's own page."""
    try:
        return reverse("console:request", args=[request_id])
    except NoReverseMatch:
        return f"{reverse('admin:index')}requests/{request_id}/"
