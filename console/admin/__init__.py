"""Django's own admin pages, for superusers: `staff` (users and log-ins) and `records` (what an operator looks up)."""

from console.admin import records, staff

__all__ = ["records", "staff"]
