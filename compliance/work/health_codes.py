"""The possible faults of the service, with advice (`compliance.work.health`)."""

from enum import StrEnum
from typing import NamedTuple


class Code(StrEnum):
    """All faults. Monitoring systems match these codes, so they are never renamed."""

    RESTORED_DATABASE = "restored_database"
    CATCHING_UP = "catching_up"
    REPLAY_UNDECIDED = "replay_undecided"
    LEDGER_MISSING = "ledger_missing"
    LEDGER_FOREIGN = "ledger_foreign"
    LEDGER_LATE = "ledger_late"
    LEDGER_NOT_COMPARED = "ledger_not_compared"
    NO_CLUSTER = "no_cluster"
    CLUSTER_GONE = "cluster_gone"
    CLUSTER_RESTARTED = "cluster_restarted"
    CLUSTER_STALLED = "cluster_stalled"
    WORKERS_IDLE = "workers_idle"
    WORK_WAITS = "work_waits"
    SWEEP_LATE = "sweep_late"
    BUCKET_MISSING = "bucket_missing"
    BUCKET_SILENT = "bucket_silent"
    STORAGE_SILENT = "storage_silent"
    CLAIMS_EXPIRED = "claims_expired"
    CREDENTIALS_INTERRUPTED = "credentials_interrupted"
    RESOLVER_OFF = "resolver_off"
    RESOLVER_FAILING = "resolver_failing"
    LOOKUPS_WAIT = "lookups_wait"
    UNEXPECTED_TASK = "unexpected_task"
    DATABASE_REFUSED = "database_refused"
    NODE_SILENT = "node_silent"
    CANARY_FOUND = "canary_found"
    CANARY_LATE = "canary_late"
    HOLDS_REVIEW_DUE = "holds_review_due"


ADVICE = {
    Code.RESTORED_DATABASE: (
        "Since {since} this database is known to be restored from a backup: {reason}. It contains people who were "
        "erased since, so nothing is filed, shown or worked on. Run manage.py replay_erasures; in a copy that is to "
        "be a service of its own, manage.py adopt --new-service."
    ),
    Code.CATCHING_UP: (
        "After a failover, since {since}, workers repeat what this database has lost. That ends by itself, within "
        "minutes; if it does not, look at the worker's log, or run manage.py replay_erasures."
    ),
    Code.REPLAY_UNDECIDED: (
        "After a restore the replay could not carry out all that the ledger says of {slugs}. Erased data may be in "
        "these chatbots again, so they are closed. Look at the requests that the replay has named, and decide: "
        "manage.py replay_erasures tries them again, --leave REQUEST leaves one as it is."
    ),
    Code.LEDGER_MISSING: (
        "Objects of the erasure ledger, which the database says were written, are gone from the hosted bucket: it "
        "was rolled back, or they were removed. They are rewritten automatically. Find out why."
    ),
    Code.LEDGER_FOREIGN: (
        "The erasure ledger has objects that this database has not written. They close nothing. Look for "
        "ledger.foreign in the worker's log: does a copy of this service use the same bucket, or who else can write "
        "to it? In the copy, never here, run manage.py adopt --new-service."
    ),
    Code.LEDGER_LATE: (
        "Since {since} something that was accepted, withdrawn or revoked waits to be written to the erasure ledger. "
        "If the database were lost now, it would be forgotten. Check the clusters and the hosted bucket."
    ),
    Code.LEDGER_NOT_COMPARED: (
        "The erasure ledger was last compared with the database at {since}, so a restore would not be noticed. Look "
        "for ledger.not_compared in the worker's log: the storage may be down, or deny s3:ListBucket, or "
        "the ledger has very many objects that this database has not written."
    ),
    Code.NO_CLUSTER: (
        "No cluster of workers is alive. Start one (manage.py qcluster); its log says why the last one ended. Until "
        "then, manage.py process_requests does the waiting work."
    ),
    Code.CLUSTER_GONE: (
        "The cluster {name} is gone without having been stopped. Start it again, or check whether its machine "
        "reaches the database."
    ),
    Code.CLUSTER_STALLED: "The cluster {name} is running, but its workers take no tasks. Restart it.",
    Code.CLUSTER_RESTARTED: (
        "A process of a cluster was killed or hung, and the cluster restarted. If that happens again, look for "
        "cluster.ends in the worker's log, and check whether memory runs out."
    ),
    Code.WORKERS_IDLE: "Work has waited for a minute while all workers are idle. Restart the clusters.",
    Code.WORK_WAITS: (
        "A request has waited for {minutes} minutes. Check the clusters and the worker's log; if there is too much "
        "work, add workers."
    ),
    Code.SWEEP_LATE: "The sweep has not run for minutes, so nothing due by time is done. Restart the cluster.",
    Code.CLAIMS_EXPIRED: (
        "The requests of a lost worker were not requeued. Start a cluster, or run manage.py process_requests."
    ),
    Code.STORAGE_SILENT: (
        "The hosted bucket has not answered since {since}. Exports, files and the completion of deletions wait until "
        "it does. Check the storage and the network in between."
    ),
    Code.BUCKET_MISSING: (
        "The hosted bucket does not exist, or we may not write there and remove what we wrote: exports, files, the "
        "erasure ledger and the completion of deletions wait or fail. manage.py check_bucket --hosted names what is "
        "refused."
    ),
    Code.BUCKET_SILENT: (
        "The client's bucket of {slug} has not answered since {since}. {waiting} wait for it; other chatbots do not. "
        "It is tried again by itself. Ask the client to check the bucket; manage.py check_bucket {slug} tries it now."
    ),
    Code.CREDENTIALS_INTERRUPTED: (
        "Issuing or revoking a client's credentials for the hosted bucket of {slugs} was interrupted, so they may "
        "still exist in the storage. manage.py bucket_credentials lists them; manage.py revoke_bucket_credentials or "
        "the page Bucket and extracts of the chatbot's settings revokes them."
    ),
    Code.RESOLVER_OFF: (
        "The resolver of {slug} is off, since another variable has become the UCI. Set it again for the new one, or "
        "remove it: manage.py set_resolver."
    ),
    Code.RESOLVER_FAILING: (
        "All calls to the resolver of {slug} have failed since {since}, so chatters stay unknown. The page "
        "Identity of the chatbot's settings says why, and lets you try it. Ask the client to check the address."
    ),
    Code.LOOKUPS_WAIT: (
        "Look-ups of identities of {slug} have waited for a first call since {since}. Check the clusters and the "
        "worker's log; if there are too many, the client's address is too slow for them."
    ),
    Code.UNEXPECTED_TASK: (
        "The queue's tables held rows that this service does not write. They were deleted, not run. Find out who can "
        "write to the database (the log has queue.unexpected_task)."
    ),
    Code.DATABASE_REFUSED: (
        "The database refuses work: its disk is full, or it takes no more connections. Requests wait without losing "
        "an attempt, and go on by themselves. Look for claim.refused, extract.refused, job.refused or task.refused "
        "in the worker's log: SQLSTATE 53100 means the disk, or /dev/shm. Make room on it, or raise max_connections."
    ),
    Code.NODE_SILENT: (
        "The machine {name} of Citus does not answer the coordinator. Conversations of its chatbots can neither be "
        "stored, shown nor erased until it does. Check its PostgreSQL and the network in between."
    ),
    Code.CANARY_FOUND: (
        "At {since} the canary found that a completed deletion had left something: {places}. manage.py canary --last "
        "names the places. Deletions of people may leave the same there: act on it now "
        "(docs/operators/runbooks/canary.md)."
    ),
    Code.CANARY_LATE: (
        "The canary has not shown since {since} that deletions leave nothing; the last reason: {reason}. manage.py "
        "canary --last says more; manage.py canary takes a turn now."
    ),
    Code.HOLDS_REVIEW_DUE: (
        "{number} of {slugs}: the date is over on which an officer checks whether the data must still be kept. The "
        "data stays held. manage.py legal_holds --state due_for_review lists them; review or release them."
    ),
}


class HealthProblem(NamedTuple):
    """A fault, and what to do about it."""

    code: Code
    detail: str


def problem(code: Code, **values: object) -> HealthProblem:
    """Return a problem with its advice, which has these values."""
    return HealthProblem(code, ADVICE[code].format(**values))
