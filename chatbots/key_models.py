"""The keys of a client company, the secrets that sign its callbacks, and the fingerprint of our own key."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from common.tables import Named, checks

# The fields with which an identity key verifies: a secret, or the client's public key.
_VERIFIES = (Q(algorithm="HS256", public_key="") & ~Q(secret_encrypted="")) | (
    Q(algorithm__in=["ES256", "RS256"], secret_encrypted="") & ~Q(public_key="")
)


class ApiKey(models.Model):
    """A signing key or a token authenticates calls. An identity key authenticates none: it verifies identity tokens.

    The prefix of an identity key is the `kid` of its tokens.
    """

    class Type(models.TextChoices):
        SIGNING = "signing", "Signing key"
        TOKEN = "token", "Token"
        IDENTITY = "identity", "Identity key"

    class Scope(models.TextChoices):
        DELETIONS_WRITE = "deletions:write", "File, preview and cancel deletions"
        EXPORTS_WRITE = "exports:write", "File, preview and cancel exports"
        REQUESTS_READ = "requests:read", "Follow requests and fetch exports"
        REQUESTS_APPROVE = "requests:approve", "Approve and reject held requests"
        CONVERSATIONS_WRITE = "conversations:write", "Send conversations and files"
        CONVERSATIONS_READ = "conversations:read", "Read the conversations log"
        MESSAGES_REDACT = "messages:redact", "Redact messages"
        IDENTITIES_WRITE = "identities:write", "Say who chatted in a conversation"
        CHANGELOG_READ = "changelog:read", "Read the change log"
        HOLDS_READ = "holds:read", "Read legal holds"
        HOLDS_WRITE = "holds:write", "Place, review and release legal holds"

    class Algorithm(models.TextChoices):
        """The only signature algorithm that is accepted with an identity key (RFC 7518)."""

        HS256 = "HS256", "HS256: a shared secret"
        ES256 = "ES256", "ES256: a public key on the curve P-256"
        RS256 = "RS256", "RS256: a public RSA key"

    chatbot = models.ForeignKey("chatbots.Chatbot", on_delete=models.PROTECT, related_name="api_keys")
    label = models.CharField(max_length=100)
    type = models.CharField(max_length=8, choices=Type)
    prefix = models.CharField(max_length=16, unique=True)  # identifies the key in logs; not secret
    scopes = ArrayField(models.CharField(max_length=32, choices=Scope), default=list, blank=True)
    # For a signing key, and an identity key with HS256: we sign with it.
    secret_encrypted = models.TextField(blank=True, default="")
    secret_sha256 = models.BinaryField(null=True, max_length=32)  # for a token: only this is stored
    # For an identity key: no other is taken.
    algorithm = models.CharField(max_length=5, choices=Algorithm, blank=True, default="", db_default="")
    # For an identity key with ES256 or RS256: the client's, in PEM.
    public_key = models.TextField(blank=True, default="", db_default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)  # written at most once a minute
    # Calls per minute; empty for RATE_LIMIT_PER_MINUTE.
    rate_limit = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                name="apikey_rate_limit_in_range",
                condition=Q(rate_limit__isnull=True) | Q(rate_limit__range=(1, 1_000_000)),
                violation_error_message="The rate limit is a number of calls a minute from 1 to 1,000,000.",
            ),
            *checks(
                apikey_type_known=Q(type__in=["signing", "token", "identity"]),
                apikey_secret_fits_type=(
                    Q(type="signing", secret_sha256__isnull=True, algorithm="", public_key="")
                    & ~Q(secret_encrypted="")
                )
                | Q(type="token", secret_sha256__isnull=False, secret_encrypted="", algorithm="", public_key="")
                | (Q(type="identity", secret_sha256__isnull=True) & _VERIFIES),
                apikey_identity_makes_no_call=~Q(type="identity") | Q(scopes=[], rate_limit__isnull=True),
                apikey_scopes_known=Q(
                    scopes__contained_by=[
                        "deletions:write",
                        "exports:write",
                        "requests:read",
                        "requests:approve",
                        "conversations:write",
                        "conversations:read",
                        "messages:redact",
                        "identities:write",
                        "changelog:read",
                        "holds:read",
                        "holds:write",
                    ]
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.prefix


class CallbackSecret(Named):
    """A secret that signs callbacks (`chatbots.callback_secrets`): the newest, and for a while its predecessor."""

    id = models.UUIDField(primary_key=True)  # UUIDv7
    chatbot = models.ForeignKey("chatbots.Chatbot", on_delete=models.PROTECT, related_name="callback_secrets")
    secret_encrypted = models.TextField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # Until when its predecessor, a secret or a signing key, signs as well.
    previous_until = models.DateTimeField(null=True)

    class Meta:
        constraints = checks(callbacksecret_not_empty=~Q(secret_encrypted=""))


class RateLimitWindow(Named):
    """The calls of a key in its current minute (`chatbots.rate_limits`).

    The table is unlogged, so that counting waits for no disk. A crash of the database empties it.
    """

    api_key = models.OneToOneField(ApiKey, on_delete=models.CASCADE, primary_key=True, related_name="+")
    chatbot = models.ForeignKey("chatbots.Chatbot", on_delete=models.PROTECT, related_name="+", db_index=False)
    began_at = models.DateTimeField()
    taken = models.BigIntegerField()  # permits taken; above the limit once it is reached


class DigestKey(Named):
    """The fingerprint of `DIGEST_KEY`: one row, written by the first `migrate` (`chatbots.digest_key`)."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    fingerprint = models.BinaryField(max_length=32)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = checks(digestkey_one_row=Q(id=1))
