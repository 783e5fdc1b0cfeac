import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from tests.codes import PASSWORD


@pytest.fixture(autouse=True)
def _fast_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def user(db: None, _fast_passwords: None) -> User:
    return User.objects.create_superuser("sam.staff", password=PASSWORD)
