"""Links by which users set their password: a first one, or another in place of one that they lost.

The tokens are Django's: signed under SECRET_KEY, with the time, the mail address, the last log-in and the hash of the
password. So nothing is stored, and a link ends with the first change of any of these. A user with a link has no
password. The mark for "no password" is random and new for each link, so it ends the previous link.

The code of a link is behind its `#`, which browsers send to no server: it is in no log and no Referer.
"""

import logging

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.db.models import QuerySet

from common import outbound

logger = logging.getLogger(__name__)

_TEXT = """\
With this link you set your password for Data Compliance:

{link}

Your user name is {name}. The link works once, for 72 hours.
If the page asks for a code, enter what follows # in the link.
"""


def create(*, user: User, page: str, actor: str) -> str:
    """Return a new link to `page`, an address; it is shown or sent once. Ends password, sessions and former links.

    Raises ValidationError for a user who cannot log in, or who has no address for mail.
    """
    if not (user.is_active and user.is_staff):
        raise ValidationError("This user cannot log in. Turn Active and Staff status on first.")
    if settings.MAILS and not user.email:
        raise ValidationError("This user has no mail address. Save one first.")
    user.set_unusable_password()
    user.save(update_fields=["password"])
    logger.info("invitation.created user=%s actor=%s", user.pk, actor)
    return f"{page}#{user.pk}-{default_token_generator.make_token(user)}"


def send(*, user: User, link: str) -> str:
    """Mail a link; return an error code, or an empty text. Takes as long as a mail may."""
    mail = EmailMessage(
        subject="[Data Compliance] Set your password",
        body=_TEXT.format(link=link, name=user.get_username()),
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=[user.email],
        headers={"Auto-Submitted": "auto-generated"},
    )
    try:
        with outbound.within(outbound.MAIL_SECONDS, answer_bytes=outbound.MAIL_ANSWER_BYTES):
            mail.send()
    except (OSError, ValueError) as error:
        code = outbound.mail_failure(error)
        logger.warning("invitation.not_sent user=%s code=%s", user.pk, code)
        return code
    return ""


def user_of(code: str) -> User | None:
    """Return the user who may set a password with the code of a link now, or None."""
    number, _, token = code.partition("-")
    user = _invited().filter(pk=int(number)).first() if number.isdecimal() and len(number) < 19 else None
    return user if default_token_generator.check_token(user, token) else None


def accept(*, user: User, password: str) -> bool:
    """Set the password of a user of `user_of`; False if their link has ended since. Raises TooBusy."""
    # If two forms are sent at once, the second finds another hash.
    found = _invited().filter(pk=user.pk, password=user.password).update(password=make_password(password))
    if found:
        logger.info("invitation.accepted user=%s", user.pk)
    return bool(found)


def end(user: User) -> None:
    """End the links of a user who is about to be saved."""
    if not user.has_usable_password():
        user.set_unusable_password()


def _invited() -> QuerySet[User]:
    return User.objects.filter(is_active=True, is_staff=True)
