"""What django-axes kept before is taken over, and its tables go."""

import importlib

import pytest
from django.contrib.auth.models import User
from django.db import connection

from accounts.models import StaffLogin

migration = importlib.import_module("chatbots.migrations.0013_logins")

AXES = """
CREATE TABLE axes_accessattempt (id bigint);
CREATE TABLE axes_accesslog (
    id bigint, username text, ip_address inet, attempt_time timestamptz, logout_time timestamptz
);
INSERT INTO axes_accesslog VALUES (1, 'sam.staff', '192.0.2.1', now() - interval '1 day', now());
INSERT INTO axes_accesslog VALUES (2, 'renamed', '192.0.2.2', now(), NULL);
"""


@pytest.mark.django_db
def test_it_keeps_from_where_users_have_logged_in():
    user = User.objects.create_user("sam.staff")
    with connection.cursor() as cursor:
        cursor.execute(AXES)
        for _ in range(2):
            cursor.execute(migration._TAKE_OVER)
    kept = StaffLogin.objects.get()
    assert (kept.user, kept.address, kept.ended_at is None) == (user, "192.0.2.1", False)
    assert not any(name.startswith("axes_") for name in connection.introspection.table_names())
