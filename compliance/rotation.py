"""Re-encrypts the secrets in the database under the newest key of `ENCRYPTION_KEYS`, while the service runs.

The ciphertexts are the progress: each names its key, so a run that was killed is continued by the next one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Count, F, Func, Model, Q, QuerySet, TextField, Value

from accounts.models import Authenticator, authenticator_binding
from chatbots.authentication import secret_binding
from chatbots.buckets.locations import bucket_secret_binding
from chatbots.callback_secrets import callback_secret_binding
from chatbots.models import ApiKey, Bucket, CallbackSecret
from common.crypto import SecretUnreadable, decrypt, encrypt, key_id_of
from common.db import fetch_one
from compliance.models import Canary, LegalHold
from compliance.models.canary import canary_token_binding
from compliance.models.holds import legal_hold_binding

_BATCH_ROWS = 500
# A secret that others change meanwhile is read again; this often one pass is followed by another.
_MOST_PASSES = 5


class Secret(NamedTuple):
    """A field with the output of `crypto.encrypt`, empty where there is no secret.

    `binding` returns what it is bound to, by the row's value of `bound_by`. Rows that are not `needed` have a secret
    that nothing reads any more; they are left alone.
    """

    model: type[Model]
    field: str
    bound_by: str
    binding: Callable[[Any], str]
    needed: Q = Q()

    @property
    def name(self) -> str:
        return f"{self.model._meta.label}.{self.field}"


# Every encrypted field of the database; a test compares. A field that is missing here keeps its old key forever.
SECRETS = (
    # A revoked key stays for good. If its secret were lost, no run would ever end well.
    Secret(ApiKey, "secret_encrypted", "prefix", secret_binding, needed=Q(revoked_at__isnull=True)),
    Secret(CallbackSecret, "secret_encrypted", "id", callback_secret_binding),
    Secret(Bucket, "secret_encrypted", "chatbot_id", bucket_secret_binding),
    Secret(Authenticator, "secret_encrypted", "user_id", authenticator_binding),
    Secret(Canary, "token_encrypted", "chatbot_id", canary_token_binding),
    Secret(LegalHold, "value_encrypted", "id", legal_hold_binding),
)


@dataclass
class StoreReport:
    """What became of one field. `before` and `after` count its secrets by the id of their key.

    `unreadable` are the primary keys of rows whose secret no key of the ring can decrypt.
    """

    name: str
    before: dict[str, int]
    after: dict[str, int] = field(default_factory=dict)
    rotated: int = 0
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """`newest` is the id of the newest key, `older` are the ids of the others in ENCRYPTION_KEYS."""

    newest: str
    older: tuple[str, ...]
    stores: list[StoreReport]

    @property
    def left(self) -> dict[str, int]:
        """How many secrets are under each key but the newest: all older ones, and those that ENCRYPTION_KEYS lack."""
        found: Counter[str] = Counter(dict.fromkeys(self.older, 0))
        for store in self.stores:
            found.update(store.after)
        del found[self.newest]
        return dict(found)

    @property
    def is_done(self) -> bool:
        """Return whether every secret can be read with the newest key alone."""
        return not any(self.left.values()) and not any(store.unreadable for store in self.stores)


def rotate(*, dry_run: bool = False, progress: Callable[[int], object] = lambda _rows: None) -> Report:
    """Try to decrypt every secret, and encrypt those that are not under the newest key anew, unless `dry_run`.

    Safe while web server and workers run: a secret that is replaced meanwhile is never overwritten. Safe to repeat.
    Holds no lock longer than for one row. `progress` is called with numbers of rows.
    """
    newest, *older = settings.ENCRYPTION_KEYS
    stores = [_rotate_store(secret, newest=newest, dry_run=dry_run, progress=progress) for secret in SECRETS]
    return Report(newest, tuple(older), stores)


def keys_in_use() -> dict[str, int]:
    """Count the secrets by the id of their key, in the tables that the process may read."""
    found: Counter[str] = Counter()
    for secret in SECRETS:
        if _may_read(secret):
            found.update(_keys_of(secret))
    return dict(found)


def _rotate_store(secret: Secret, *, newest: str, dry_run: bool, progress: Callable[[int], object]) -> StoreReport:
    report = StoreReport(secret.name, before=_keys_of(secret))
    for _ in range(_MOST_PASSES):
        report.unreadable, was_changed = [], False
        for pk, bound_value, stored in _rows(secret):
            progress(1)
            bound_to = secret.binding(bound_value)
            try:
                plaintext = decrypt(stored, bound_to=bound_to)
            except SecretUnreadable:
                report.unreadable.append(str(pk))
                continue
            if dry_run or key_id_of(stored) == newest:
                continue
            # One row and one statement: no other transaction waits for more, or in another order.
            unchanged = secret.model._default_manager.filter(pk=pk, **{secret.field: stored})
            if unchanged.update(**{secret.field: encrypt(plaintext, bound_to=bound_to)}):
                report.rotated += 1
            else:
                was_changed = True
        if not was_changed:
            break
    report.after = _keys_of(secret)
    return report


def _rows(secret: Secret) -> Iterator[tuple[Any, Any, str]]:
    """Yield primary key, bound value and ciphertext of each secret, in batches, without a transaction around them."""
    rows = _of(secret).order_by("pk").values_list("pk", secret.bound_by, secret.field)
    batch = list(rows[:_BATCH_ROWS])
    while batch:
        yield from batch
        batch = list(rows.filter(pk__gt=batch[-1][0])[:_BATCH_ROWS])


def _keys_of(secret: Secret) -> dict[str, int]:
    key_id = Func(F(secret.field), Value(":"), Value(2), function="split_part", output_field=TextField())
    return dict(_of(secret).values_list(key_id).annotate(Count("pk")).order_by(key_id))


def _of(secret: Secret) -> "QuerySet[Any]":
    return secret.model._default_manager.filter(secret.needed).exclude(**{secret.field: ""})


def _may_read(secret: Secret) -> bool:
    table, column = secret.model._meta.db_table, secret.field
    row = fetch_one("SELECT has_column_privilege(to_regclass(%s), %s, 'SELECT')", [table, column])
    return bool(row and row[0])
