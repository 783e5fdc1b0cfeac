"""Deliver the files of a claim's exports: read in one snapshot, sent while the next is read, completed in groups."""

import logging
import time
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

import psycopg
from django.utils import timezone
from psycopg import sql
from psycopg.pq import TransactionStatus

from common.database_errors import REFUSED, describe_database_error, was_refused_temporarily
from common.leases import LeaseRenewer
from common.storage import PART_BYTES, ObjectStorage, StorageError, Written
from compliance.cluster import occurrences
from compliance.errors import ClaimLost, StepFailed
from compliance.export import records
from compliance.export.attachments import COPIES_AT_ONCE, FileCopier, Folder, Met, read_file
from compliance.export.formats import Contents, Part, zipped
from compliance.export.records import Target
from compliance.models import ComplianceRequest
from compliance.work.claims import HeldClaim
from compliance.work.sql import digests_of
from compliance.work.transitions import completion, requeue
from compliance.work.upload_pool import THREADS, UploadPool
from conversations.placement import machines
from conversations.snapshots import read_patiently, snapshot
from conversations.transcripts import TranscriptCounts, TranscriptPiece, Transcripts

logger = logging.getLogger(__name__)

# A file of less than a part is read whole and handed to the pool; a larger one is sent in parts when the pool is
# idle. So memory contains the file that is being read (16 MiB), at most this much besides, and once more HTTP's copy.
POOL_BYTES = 2 * PART_BYTES
# Files that are completed together. After a kill, at most this many finished files are repeated.
FILES_PER_COMPLETION = 50
# The longest wait of a finished file for the others.
SECONDS_TO_COMPLETION = 2.0
# The code in the change log of an export that runs again, since a deletion has met one of its conversations.
_OVERTAKEN = "export_overtaken"

# The chatbot's setting in the snapshot, like all other data.
_WANTED = sql.SQL(f"""
SELECT r.seq AS place, r.chatbot_id, r.variable_id, r.uci_digest, {digests_of("r")} AS conversation_digests,
       r.include_shared, b.export_assurance
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (SELECT export_assurance FROM chatbots_chatbot WHERE id = r.chatbot_id) AS b
 WHERE {{which}}
""")

_OF_CLAIM = sql.SQL("""
r.claim_id = {claim} AND r.formats = 'csv' AND r.archive = '' AND r.include_files = {with_files}
AND r.csv_dialect = {dialect}
""")
# Found by its id: `seq` would be a constant (`wanted`).
_ONE_OF_CLAIM = sql.SQL("r.claim_id = {claim} AND r.id = {request}")


class Reporter:
    """Reports uncompleted exports, in transactions of the claim. `settled` have left it. Raises ClaimLost."""

    def __init__(self, held: HeldClaim) -> None:
        self.settled: set[Target] = set()
        self._held = held

    def overtaken(self, targets: Collection[Target]) -> None:
        """Requeue exports of which a deletion has met a conversation: they run again on the remaining ones."""
        if targets:
            requeue.retry_now(self._held, [target.request_id for target in targets], code=_OVERTAKEN)
            self.settled.update(targets)

    def failed(self, failures: Mapping[Target, StepFailed]) -> None:
        """Fail exports. Those that a deletion has met are overtaken instead: they failed because of its removal."""
        if not failures:
            return
        met = records.met_since(failures)
        self.overtaken(met)
        failed = {target.request_id: failure for target, failure in failures.items() if target not in met}
        if failed:
            requeue.step_failed(self._held, failed)
        self.settled |= failures.keys()

    def unchanged(self, targets: Collection[Target]) -> None:
        """Requeue exports that left nothing to purge."""
        if targets:
            with self._held.transaction():
                records.forget_keys(targets)
            waiting_for = ComplianceRequest.WaitingFor.TURN
            requeue.requeue(self._held, [target.request_id for target in targets], waiting_for=waiting_for)


@dataclass(eq=False, repr=False)
class Delivery:
    """Sends the files of the claim's exports into open, recorded uploads, and completes them.

    Removes from `uploads` those that it has sent, or tried to send. The caller aborts the others.
    """

    held: HeldClaim
    renewer: LeaseRenewer
    report: Reporter
    storage: ObjectStorage
    uploads: dict[Target, str]

    def __post_init__(self) -> None:
        self._targets = {target.place: target for target in self.uploads}
        self._counts: dict[int, TranscriptCounts] = {}
        self._lines: Counter[int] = Counter()
        self._copied: Counter[Target] = Counter()
        self._settled = time.monotonic()
        self._pool = UploadPool[Target, Written](self.renewer, waiting=THREADS, most_bytes=POOL_BYTES)

    def run(self, *, deadline: float) -> None:
        """Deliver all files, or until a large one ends past the deadline. Raises ClaimLost."""
        unread: StepFailed | None = None
        try:
            with self._pool, snapshot() as reader:
                # FileCopier files can take long: exports without any do not wait for it. A COPY has one dialect.
                for with_files, dialect in sorted(
                    {each.reading_group for each in self.uploads if each.reading_group}
                ):
                    if self._pool.begun and time.monotonic() > deadline:
                        break
                    self._read_and_send(reader, deadline, with_files=with_files, dialect=dialect)
                for target in [each for each in self.uploads if each.reading_group is None]:
                    if (self._pool.begun or self.report.settled) and time.monotonic() > deadline:
                        break
                    if reader.info.transaction_status != TransactionStatus.INTRANS:
                        break  # the storage failed, and the statement that was read meanwhile was cancelled
                    self._deliver_formats(reader, target)
        except psycopg.Error as error:
            # From the snapshot's connection: Django's raises Django's errors.
            unread = _unread(error)
        finally:
            for target in self._pool.begun:
                self.uploads.pop(target, None)
        self._settle()
        if unread:
            self._fail_unread(unread)

    def _read_and_send(
        self, reader: psycopg.Connection[Any], deadline: float, *, with_files: bool, dialect: str
    ) -> None:
        targets = {each.place: each for each in self.uploads if each.reading_group == (with_files, dialect)}
        transcripts = self._transcripts(reader, targets, _OF_CLAIM, dialect=dialect, with_files=with_files)
        if with_files:
            self._pool.wait_for_all()
            self._settle()
            self._copy_files(transcripts, targets.values())
        with closing(self._pieces(reader, transcripts, targets)) as pieces:
            for place, of_file in groupby(pieces, key=attrgetter("place")):
                target = targets[place]
                if target in self.report.settled:
                    continue  # groupby reads on to the next one
                data = (piece.data for piece in of_file)
                head = _read_part(data)
                if len(head) < PART_BYTES:
                    send = partial(self.storage.write_parts, target.key, self.uploads[target], [head])
                    self._pool.submit(target, send, size=len(head))
                    self._settle_if_due()
                else:
                    self._pool.wait_for_all()
                    self._settle()
                    self._stream(target, chain([head], data))
                    if time.monotonic() > deadline:
                        break

    def _transcripts(
        self,
        reader: psycopg.Connection[Any],
        targets: Mapping[int, Target],
        which: sql.SQL,
        *,
        dialect: str,
        **values: Any,
    ) -> Transcripts:
        """Return the files of these targets, and record their counts and conversations. Raises ClaimLost."""
        values |= {"claim": self.held.id, "dialect": dialect}
        transcripts = Transcripts(
            reader,
            wanted(which.format(**{name: sql.Literal(value) for name, value in values.items()})),
            chatbot_ids={target.chatbot_id for target in targets.values()},
            dialect=dialect,
        )
        counts = transcripts.count()
        if counts.keys() != targets.keys():
            raise ClaimLost
        self._counts |= counts
        self._record_conversations(transcripts)
        return transcripts

    def _deliver_formats(self, reader: psycopg.Connection[Any], target: Target) -> None:
        """Deliver an export in several formats: its files, then the manifest; or one ZIP."""
        self._pool.wait_for_all()
        self._settle()
        transcripts = self._transcripts(
            reader, {target.place: target}, _ONE_OF_CLAIM, dialect=target.csv_dialect, request=target.request_id
        )
        counts = self._counts[target.place]
        self._lines[target.place] = counts.messages
        if target in self.report.settled:
            return
        contents = Contents(
            reader,
            transcripts,
            target,
            counts,
            made_at=timezone.now(),
            meanwhile=self.renewer.renew_if_due,
        )
        if target.archive:
            with closing(contents.parts()) as parts, closing(self._zipped_copies(target, contents)) as copies:
                self._stream(target, zipped(contents, chain(parts, copies)))
            return
        if target.include_files:
            self._copy_files(transcripts, [target])
        if target not in self.report.settled:
            self._write_folder(target, contents)

    def _zipped_copies(self, target: Target, contents: Contents) -> Generator[Part]:
        for part in contents.copies(read_file, at_once=COPIES_AT_ONCE):
            yield part
            self._copied[target] += 1

    def _write_folder(self, target: Target, contents: Contents) -> None:
        """Write the files of the formats, and then the manifest, by which the export is completed."""
        folder = Folder(self.held, self.renewer, self.storage, target)
        try:
            with closing(contents.parts(beside=folder.write)) as parts:
                for part in parts:
                    folder.write(part)
        except Met:
            self.report.overtaken([target])
        except StorageError as error:
            self.report.failed({target: StepFailed.of(error)})
        else:
            self._stream(target, [contents.manifest(folder.files())])

    def _record_conversations(self, transcripts: Transcripts) -> None:
        """Record the conversations of the files, and leave out files that a deletion has met."""
        with closing(transcripts.conversations()) as contents:
            for some in contents:
                self.report.overtaken(self._record_some([(self._targets[place], number) for place, number in some]))

    def _record_some(self, contents: Collection[tuple[Target, int]]) -> set[Target]:
        def record(_now: datetime, chatbots: set[int]) -> set[Target]:
            return records.record_conversations([one for one in contents if one[0].chatbot_id in chatbots])

        chatbots = {target.chatbot_id for target, _ in contents}
        return set(self.held.share_with_intake(chatbots, record)) - self.report.settled

    def _pieces(
        self, reader: psycopg.Connection[Any], transcripts: Transcripts, places: Iterable[int]
    ) -> Generator[TranscriptPiece]:
        """Yield the pieces of these files, count their lines, and renew the claim meanwhile."""
        pieces = transcripts.pieces(places)
        if self.held.is_large:
            # Small exports are sorted at once; another thread would cost more.
            pieces = read_patiently(reader, pieces, meanwhile=self.renewer.renew_if_due)
        with closing(pieces):
            for piece in pieces:
                self.renewer.renew_if_due()
                self._lines[piece.place] += piece.lines
                yield piece

    def _copy_files(self, transcripts: Transcripts, targets: Iterable[Target]) -> None:
        copying = FileCopier(self.held, self.renewer, self.storage)
        copying.run(transcripts, [target for target in targets if target not in self.report.settled])
        self._copied = copying.copied
        self.report.overtaken(copying.overtaken)
        self.report.failed(copying.failed)

    def _stream(self, target: Target, data: Iterable[bytes]) -> None:
        upload_id = self.uploads.pop(target)  # write_parts aborts it by itself
        try:
            written = self.storage.write_parts(
                target.key, upload_id, data, meanwhile=self.renewer.renew_if_due, before_complete=self.held.renew
            )
        except StorageError as error:
            self.report.failed({target: StepFailed.of(error)})
        else:
            self._complete({target: written})

    def _settle_if_due(self) -> None:
        self._pool.note_finished()
        waited = time.monotonic() - self._settled > SECONDS_TO_COMPLETION
        if len(self._pool.done) >= FILES_PER_COMPLETION or waited:
            self._settle()

    def _settle(self) -> None:
        """Complete or fail the files that the pool has sent."""
        done, failed = self._pool.take()
        self._complete(done)
        self.report.failed(failed)
        self._settled = time.monotonic()

    def _complete(self, written: dict[Target, Written]) -> None:
        files = [self._delivered(target, file) for target, file in written.items()]
        if not files:
            return
        overtaken = completion.complete_exports(self.held, files)
        self.report.overtaken([target for target in written if target.request_id in overtaken])
        self.report.settled |= written.keys()

    def _delivered(self, target: Target, written: Written) -> completion.DeliveredFile:
        counts = self._counts[target.place]
        return completion.DeliveredFile(
            request_id=target.request_id,
            chatbot_id=target.chatbot_id,
            export_id=target.export_id,
            key=target.key,
            rows=self._lines[target.place],
            bytes=written.bytes,
            sha256=written.sha256,
            counts=completion.Counts(
                conversations=counts.conversations,
                messages=counts.messages,
                shared_conversations=counts.shared_left_out,
                unverified_left_out=counts.unverified_left_out,
                files=self._copied[target],
                **dict(zip(completion.ASSURANCE_COUNTERS, counts.assurances, strict=True)),
            ),
        )

    def _fail_unread(self, failure: StepFailed) -> None:
        """Requeue the exports in smaller sets, without losing an attempt: one may be why none could be read."""
        unread = [target.request_id for target in self._targets.values() if target not in self.report.settled]
        if failure.code == machines.SILENT:
            requeue.machine_lost(self.held, unread)
        elif failure.code == REFUSED:
            logger.warning("claim.refused claim=%s %s", self.held.id, failure.detail)
            occurrences.pause_after_refusal()
            requeue.refused(self.held, unread, failure)
        elif len(self.held.request_ids) > 1:
            requeue.split_up(self.held, unread)
        else:
            requeue.step_failed(self.held, dict.fromkeys(unread, failure))


def _unread(error: psycopg.Error) -> StepFailed:
    if machines.has_failed(error):
        return StepFailed.by_machine()
    if was_refused_temporarily(error):
        return StepFailed.by_refusal(error)
    detail = f"The conversations could not be read: {describe_database_error(error)}."
    return StepFailed("export_not_read", detail)


def _read_part(data: Iterator[bytes]) -> bytes:
    part = bytearray()
    for piece in data:
        part += piece
        if len(part) >= PART_BYTES:
            break
    return bytes(part)


def wanted(which: sql.Composable) -> sql.Composed:
    """Return the query that Transcripts takes, for the requests `r` that meet a condition, with `seq` as the place.

    So no statement contains a value. It is not restricted to the seq of a single request: `place` would be a constant
    for the planner, which would sort all lines at once and take half as long again.
    """
    return _WANTED.format(which=which)
