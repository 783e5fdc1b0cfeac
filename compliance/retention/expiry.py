"""EXPIRY: the table of all data that ends by age: the rows, the time, the exceptions and the action.

`remove_expired` carries it out in bounded pieces, and `count_expired` counts the same. `unended` compares it with the
inventory: a field that a deletion keeps for a while without a rule that ends it stops the project from starting.

Rows are found first, among those of all chatbots, and then locked and changed place by place: where the conversation
tables are distributed, no statement locks rows of several shards, or compares them with a local table
(docs/explanation/citus.md). Rows that other transactions have locked are left for the next sweep.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, cast

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Case, Exists, F, Model, OuterRef, Q, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Now

from accounts.models import LoginFailures, StaffLogin
from common.db import array, fetch
from common.isolation import Isolation
from common.storage import StorageError
from compliance import models as compliance
from compliance.inventory import STORES, Disposition
from compliance.ledger.objects import expired_keys
from compliance.models import ComplianceRequest, Export
from compliance.retention import objects
from compliance.retention.objects import Cleanup
from compliance.storage_locations import CLIENT
from compliance.work import legal_holds
from conversations import locks
from conversations import models as conversations
from conversations.extracts import leases
from conversations.placement import by_place, machines
from conversations.placement.distribution import DISTRIBUTED

_ALL = Q()
_HELD_FOR = timedelta(days=1)
# The number of rows that one transaction changes.
_ROWS_AT_ONCE = 10_000


def _ledger_days() -> timedelta:
    return cast("timedelta", settings.ERASURE_LEDGER_DAYS)


@dataclass(frozen=True)
class Objects:
    """Objects in storage with rows of these models. `remove` yields how many it has removed.

    All may raise StorageError.
    """

    expired: Callable[[], Iterable[Any]]
    remove: Callable[[Cleanup], Iterator[int]]
    models: tuple[type[Model], ...] = ()

    def count(self) -> int:
        found = self.expired()
        return found.count() if isinstance(found, QuerySet) else sum(1 for _ in found)


@dataclass(frozen=True)
class Rows:
    """Rows of a model whose time `at` has been over for the time `after`, of `only` those.

    They are deleted, or get the values of `clears`. Before, rows of other models are deleted by `goes_with`: the
    model, and its field with the row's `key`. `kept` is SQL that returns which of the rows `ids` of `table`, of the
    `chatbots` of one place, stay for now. `held` returns which of these rows a legal hold keeps: they are looked at
    again after `_HELD_FOR`, so that they do not stand before those of others.
    """

    model: type[Model]
    at: str | Combinable
    after: Callable[[], timedelta] = timedelta
    only: Q | Combinable = _ALL
    clears: Mapping[str, Any] = field(default_factory=dict)
    goes_with: Mapping[type[Model], str] = field(default_factory=dict)
    kept: str = ""
    held: Callable[[Collection[Any], Collection[int]], set[Any]] | None = None
    key: str = "pk"

    @property
    def models(self) -> tuple[type[Model], ...]:
        return self.model, *self.goes_with

    def ends(self, model: type[Model], name: str) -> bool:
        """Return whether this rule ends a field of a model."""
        return model in self.goes_with or (model is self.model and (not self.clears or name in self.clears))

    def count(self) -> int:
        if not self.kept and not (self.held and legal_holds.any_in_force()):
            return self.due().count()
        return sum(len(self._removable(page, keys)) for page in self._pages() for keys in by_place(page))

    def remove(self, run: Cleanup) -> Iterator[int]:
        """Yield how many rows each transaction has ended. Raises PartsFailed after all chatbots."""
        with Isolation() as isolated:
            for page in run.until_deadline(self._pages()):
                if not self._is_placed:
                    yield self._end(page, page)
                    continue
                for keys in by_place(page):
                    yield from isolated.by_chatbot({key: page[key] for key in keys}, partial(self._end, page))

    @property
    def _is_placed(self) -> bool:
        """Whether a chatbot's rows, or the rows that keep them, are in one place on Citus."""
        return self.model in DISTRIBUTED or bool(self.kept)

    def due(self) -> QuerySet[Any]:
        """Return the rows whose time is over, on the machines that answer, including those that are kept."""
        rows = self.model._default_manager.annotate(over_at=F(self.at) if isinstance(self.at, str) else self.at)
        due = rows.filter(self.only, over_at__lt=Now() - self.after())
        return machines.answering(due) if self._is_placed else due

    def _pages(self) -> Iterator[dict[Any, int]]:
        """Yield the due rows in pages: the keys with their chatbots."""
        chatbot = ["chatbot_id"] if self._is_placed else []
        due = self.due().values_list("over_at", self.key, *chatbot, named=True)
        for page in objects.pages(due, at="over_at", key=self.key, most=_ROWS_AT_ONCE):
            yield {getattr(row, self.key): getattr(row, "chatbot_id", 0) for row in page}

    def _removable(self, page: Mapping[Any, int], keys: Collection[Any]) -> set[Any]:
        """Return the keys, of these in one place, that nothing keeps."""
        values = {"ids": array(keys), "chatbots": array({page[key] for key in keys}), "ledger_days": _ledger_days()}
        kept = fetch(self.kept.format(table=self.model._meta.db_table), values) if self.kept else ()
        return set(keys).difference(key for (key,) in kept).difference(self._held(page, keys))

    def _held(self, page: Mapping[Any, int], keys: Collection[Any]) -> set[Any]:
        return self.held(keys, {page[key] for key in keys}) if self.held else set()

    def _end(self, page: Mapping[Any, int], keys: Collection[Any]) -> int:
        def of(rows: QuerySet[Any], name: str, some: Collection[Any]) -> QuerySet[Any]:
            rows = rows.filter(**{f"{name}__in": some})
            return rows.filter(chatbot__in={page[key] for key in keys}) if rows.model in DISTRIBUTED else rows

        with transaction.atomic():
            held = self._held(page, keys)
            if held:
                of(self.model._default_manager.all(), self.key, held).update(**{str(self.at): Now() + _HELD_FOR})
            # A row may not be due any more: a look-up that is queued anew expires later.
            going = of(self.due(), self.key, self._removable(page, set(keys) - held)).select_for_update(
                skip_locked=True
            )
            locked = list(going.values_list(self.key, flat=True))
            for model, name in self.goes_with.items() if locked else ():
                of(model._default_manager.all(), name, locked).delete()
            rows = of(self.model._default_manager.all(), self.key, locked)
            if self.clears:
                rows.update(**self.clears)
            else:
                rows.delete()
        return len(locked)


# The links from a conversation that was erased long ago to its people and copies stay while a deletion still has to
# remove some of its data, which it finds by them. Each export and day is looked up by itself: in a join, PostgreSQL
# may read all of them for the few old rows. No copy of an erased conversation is made any more, so what has none here
# has none when the row is locked.
_HAS_COPIES = """
WITH files AS MATERIALIZED (
    SELECT conversation_id FROM conversations_uploadedfile
     WHERE conversation_id = ANY(%(ids)s) AND chatbot_id = ANY(%(chatbots)s)
)
SELECT conversation_id FROM files
 UNION ALL
SELECT held.conversation_id
  FROM compliance_exportconversation AS held
 CROSS JOIN LATERAL (SELECT * FROM compliance_export WHERE id = held.export_id OFFSET 0) AS e
 WHERE held.conversation_id = ANY(%(ids)s) AND e.key IS NOT NULL
   AND (e.hosting = 'hosted' OR e.finished_at IS NULL)
 UNION ALL
SELECT t.conversation_id
  FROM conversations_extractconversation AS t
 CROSS JOIN LATERAL (SELECT * FROM conversations_dailyextract WHERE id = t.extract_id OFFSET 0) AS e
 WHERE t.conversation_id = ANY(%(ids)s) AND e.hosting = 'hosted' AND e.key IS NOT NULL
   AND coalesce(e.made_version, 0) < t.version
"""


def _ended_at(request: str = "") -> Coalesce:
    """Return when a request ended, or the one with fields such as `request__status`."""
    return Coalesce(*(f"{request}{time}" for time in ("completed_at", "cancelled_at", "rejected_at", "failed_at")))


# By dates, since PostgreSQL would search for a status in the index of all requests.
_IS_FINAL = Q(completed_at__isnull=False) | Q(cancelled_at__isnull=False) | Q(rejected_at__isnull=False)

# A later deletion finds the chatter's exports by the digest.
_HAS_EXPORT = Exists(Export.objects.filter(request=OuterRef("pk"), key__isnull=False))


def _values_under_hold(ids: Collection[Any], chatbot_ids: Collection[int]) -> set[Any]:
    """Return which of these variable values a legal hold keeps, in the transaction that deletes the others.

    If a chatbot's lock is not free, all of its values stay for now.
    """
    free = locks.try_to_share(chatbot_ids)
    values = conversations.VariableValue.objects.filter(pk__in=ids, chatbot__in=chatbot_ids)
    if free == set(chatbot_ids) and not legal_holds.any_in_force():
        return set()
    conversation_of = {
        pk: (chatbot_id, number)
        for pk, chatbot_id, number in values.values_list("pk", "chatbot_id", "conversation_id")
    }
    held = legal_holds.find_held(free, {number for _, number in conversation_of.values()})
    return {pk for pk, (chatbot_id, number) in conversation_of.items() if chatbot_id not in free or number in held}


# A request that can be retried keeps its conversations as long as one of them is left. Once everything is erased, no
# deletion needs to find it, and no retry delivers anything.
_NAMES_WHAT_IS_LEFT = """
WITH named AS MATERIALIZED (
    SELECT s.request_id, s.chatbot_id, s.digest
      FROM compliance_compliancerequest r
     CROSS JOIN LATERAL (SELECT * FROM compliance_requestsubject WHERE request_id = r.id) AS s
     WHERE r.id = ANY(%(ids)s)
       AND (coalesce(r.completed_at, r.cancelled_at, r.rejected_at) IS NULL
            OR EXISTS (SELECT FROM compliance_export e WHERE e.request_id = r.id AND e.key IS NOT NULL))
)
SELECT DISTINCT named.request_id
  FROM named
  JOIN conversations_conversation c
    ON c.chatbot_id = named.chatbot_id AND c.external_id_digest = named.digest AND c.deleted_at IS NULL
 WHERE c.chatbot_id = ANY(%(chatbots)s)
"""

# Intake refuses late data until the deletion is over (a failed one is not), and for the ledger's days after. A
# deletion that is over stays over.
_IS_OF_OPEN_DELETION = """
WITH old AS MATERIALIZED (
    SELECT id, request_id FROM {table} WHERE id = ANY(%(ids)s) AND chatbot_id = ANY(%(chatbots)s)
)
SELECT old.id FROM old JOIN compliance_compliancerequest AS r ON r.id = old.request_id
 WHERE r.status IN ('accepted', 'on_hold', 'processing') OR (r.status = 'failed' AND r.uci_value IS NOT NULL)
    OR r.completed_at > now() - %(ledger_days)s
"""


def _is_awaited(request: str = "") -> Exists:
    """Return whether a deletion is held for the export that this request files."""
    named = compliance.RequestSubject.objects.filter(request=OuterRef(OuterRef(f"{request}pk")))
    return Exists(
        ComplianceRequest.objects.filter(
            Q(pending_export_id=OuterRef(f"{request}pk"))
            | Q(variable=OuterRef(f"{request}variable"), uci_digest=OuterRef(f"{request}uci_digest"))
            | Q(subjects__digest__in=named.values("digest")),
            status="on_hold",
            hold_reason="export_pending",
        )
    )


_FAILED_DELETIONS = ComplianceRequest.objects.filter(~Q(kind="export"), chatbot__gt=0, status="failed")
_HAS_FAILED_DELETION = Exists(_FAILED_DELETIONS.filter(chatbot=OuterRef("chatbot")))
# The key of an object in a client's bucket contains a value.
_FORGET_KEY: dict[str, Any] = {
    "clears": {"key": None, "upload_id": None},
    "goes_with": {compliance.ExportFile: "export"},
}

EXPIRY: Mapping[str, Rows | Objects] = {
    "exports": Objects(objects.exports, objects.remove_exports, (Export, compliance.ExportFile)),
    "extracts": Objects(leases.expired, objects.remove_extracts, (conversations.DailyExtract,)),
    "abandoned_uploads": Objects(
        objects.abandoned_uploads, objects.remove_abandoned_uploads, (conversations.UploadedFile,)
    ),
    "forgotten_uploads": Objects(objects.forgotten_uploads, objects.remove_forgotten_uploads),
    "ledger_objects": Objects(expired_keys, objects.remove_ledger_objects),
    "callbacks": Rows(compliance.Callback, "expires_at", only=~Q(state="waiting")),
    "conversation_digests": Rows(
        conversations.Conversation,
        "deleted_at",
        _ledger_days,
        Q(external_id_digest__isnull=False),
        clears={"external_id_digest": None},
        goes_with={
            conversations.Identity: "conversation",
            conversations.ExtractConversation: "conversation_id",
            compliance.ExportConversation: "conversation_id",
        },
        kept=_HAS_COPIES,
    ),
    "chatter_digests": Rows(
        ComplianceRequest,
        _ended_at(),
        _ledger_days,
        Q(~_HAS_EXPORT, uci_value=None, uci_digest__isnull=False),
        clears={"uci_digest": None},
    ),
    # An object that a client's bucket has refused to remove for this time is the client's, unless a deletion has
    # failed, maybe because of it.
    "given_up_keys": Rows(
        Export,
        _ended_at("request__"),
        _ledger_days,
        objects.GIVEN_UP & Q(~_is_awaited("request__"), ~_HAS_FAILED_DELETION, hosting=CLIENT),
        **_FORGET_KEY,
    ),
    # A failed export keeps its value for a retry, and no longer than a digest, unless a deletion is held for it. (A
    # failed deletion is still to be carried out.)
    "failed_exports": Rows(
        ComplianceRequest,
        "failed_at",
        _ledger_days,
        Q(~_HAS_EXPORT, ~_is_awaited(), kind="export", status="failed", uci_value__isnull=False),
        clears={"uci_value": None, "uci_digest": None, "callback_url": ""},
    ),
    # A deletion clears the keys of its chatter; later ones find the copy by its conversations.
    "delivered_keys": Rows(Export, "finished_at", _ledger_days, Q(hosting=CLIENT, key__isnull=False), **_FORGET_KEY),
    # Deletions clear the notes of their chatters; this clears the others.
    "notes": Rows(compliance.RequestNote, "created_at", _ledger_days, Q(text__isnull=False), clears={"text": None}),
    # A failed deletion keeps them for its retry.
    "named_conversation_digests": Rows(
        ComplianceRequest,
        _ended_at(),
        _ledger_days,
        Q(Q(kind="export") | _IS_FINAL, named_conversations__isnull=False, chatbot__gt=0),
        clears={
            "named_conversations": None,
            "callback_url": Case(When(status="failed", then=Value("")), default=F("callback_url")),
        },
        goes_with={compliance.RequestSubject: "request"},
        kept=_NAMES_WHAT_IS_LEFT,
    ),
    # A failed redaction keeps them for its retry.
    "message_digests": Rows(
        ComplianceRequest,
        _ended_at(),
        _ledger_days,
        Q(_IS_FINAL, message_digests__isnull=False),
        clears={"message_digests": None},
    ),
    # A reference leads from a request, and so from the rows that it left, to a person known to the client. A failed
    # request, which may be retried, keeps it as long as a digest (so these come after the digests). A redaction never
    # has one, and keeps it as long as it is failed. (As the index says it, but for the last condition.)
    "references": Rows(
        ComplianceRequest,
        _ended_at(),
        _ledger_days,
        ~Q(reference="")
        & (_IS_FINAL | Q(uci_digest=None, named_conversations=None))
        & (~Q(kind="redaction") | _IS_FINAL),
        clears={"reference": "", "callback_url": ""},
    ),
    "released_holds": Rows(
        compliance.LegalHold,
        "released_at",
        _ledger_days,
        ~Q(matter=""),
        clears={"matter": "", "uci_digest": None},
        goes_with={compliance.LegalHoldConversation: "hold"},
    ),
    "variable_values": Rows(conversations.VariableValue, "expires_at", held=_values_under_hold),
    "identity_lookups": Rows(conversations.IdentityLookup, "expires_at"),
    "tombstones": Rows(conversations.Tombstone, "expires_at", kept=_IS_OF_OPEN_DELETION),
    # They expire with the chatter's tombstone.
    "refused_identities": Rows(conversations.RefusedIdentity, "expires_at", kept=_IS_OF_OPEN_DELETION),
    # As long as the objects of these lines, and until they are decided.
    "ledger_lines": Rows(
        compliance.LedgerLine,
        "at",
        _ledger_days,
        ~Q(outcome="undecided")
        & ~Q(outcome__in=["", "filed"], incarnation__in=compliance.Service.objects.values("incarnation")),
    ),
    # Longer than its object, which a worker may not get to remove for a while: an object without a row looks like a
    # restore. The newest one stays: the next key is not before it.
    "ledger_rows": Rows(
        compliance.LedgerObject,
        "at",
        lambda: _ledger_days() + timedelta(days=30),
        Exists(compliance.LedgerObject.objects.filter(at__gt=OuterRef("at"))),
    ),
    "replays": Rows(compliance.Replay, "expires_at"),
    # By their end: the workers' role may not read session keys.
    "sessions": Rows(Session, "expire_date", key="expire_date"),
    "log_ins": Rows(StaffLogin, "at", lambda: settings.LOGIN_RECORD_DAYS),
    # Without those that still count towards a lock-out.
    "failed_log_ins": Rows(LoginFailures, "ends_at"),
}

_FOR_A_WHILE = {Disposition.LEDGER, Disposition.EXPIRES}


def unended() -> Iterator[str]:
    """Yield an instruction for each field that a deletion keeps for a while without a rule that ends it."""
    rules = [rule for rule in EXPIRY.values() if isinstance(rule, Rows)]
    for store in STORES:
        for name, (disposition, _) in store.fields.items():
            if disposition in _FOR_A_WHILE and not any(rule.ends(store.model, name) for rule in rules):
                yield (
                    f"{store.model._meta.label}.{name} is kept for a while, and nothing ends it: add a rule to "
                    "compliance/retention/expiry.py."
                )


def rules_of(model: type[Model]) -> list[str]:
    """Return the names of the rules that end rows or fields of a model."""
    return [name for name, rule in EXPIRY.items() if model in rule.models]


def remove_expired(run: Cleanup | None = None) -> Cleanup:
    """Remove expired data, by default a limited share; return the run. Raises PartsFailed after all was tried."""
    run = run or Cleanup()
    with Isolation() as isolated:
        for name, rule in EXPIRY.items():
            with isolated.part(name):
                try:
                    for count in rule.remove(run):
                        run.removed[name] += count
                        run.progress(count)
                except StorageError as error:
                    run.refuse(error)
    return run


def count_expired() -> dict[str, int]:
    """Count the data that `remove_expired` would remove, by rule. Raises StorageError."""
    return {name: rule.count() for name, rule in EXPIRY.items()}
