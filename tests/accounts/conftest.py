import pytest
from django.contrib.auth.models import User

from tests.browser import chromium
from tests.codes import PASSWORD

__all__ = ["chromium", "user"]


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_superuser("sam.staff", password=PASSWORD)
