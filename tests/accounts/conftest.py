import pytest
from django.contrib.auth.models import User

from tests.codes import PASSWORD


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_superuser("sam.staff", password=PASSWORD)
