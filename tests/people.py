"""Staff of a chatbot, and browsers (Django's test client) in which they are logged in."""

from itertools import count

from django.contrib.auth.models import User
from django.test import Client

from chatbots.models import Chatbot, Membership

Role = Membership.Role

_numbers = count(1)


def staff(chatbot: Chatbot, role: Role = Role.VIEWER) -> User:
    """Create a staff user with one role in one chatbot, and no Django permission."""
    user = User.objects.create_user(f"{role.value}-{next(_numbers)}", is_staff=True)
    Membership.objects.create(chatbot=chatbot, user=user, role=role)
    return user


def client_of(user: User) -> Client:
    """Return a client in which a user is logged in."""
    client = Client()
    client.force_login(user)
    return client


def member(chatbot: Chatbot, role: Role = Role.VIEWER) -> Client:
    """Return a client in which a new staff user with one role in one chatbot is logged in."""
    return client_of(staff(chatbot, role))
