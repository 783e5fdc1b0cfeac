"""What each code that a request can fail with means and what to do about it: for the request's page in the console,
and the table of docs/reference/failure-codes.md."""

from collections.abc import Mapping

from common.problems import Help

FAILURES: Mapping[str, Help] = {
    "storage_unavailable": Help(
        "The storage did not answer, or was overloaded.",
        "When it is back, retry.",
    ),
    "storage_access_denied": Help(
        "The storage refused our key.",
        "The detail names the permission to grant, or says that key, secret or clock is wrong. Then retry.",
    ),
    "storage_role_refused": Help(
        "STS refused `AssumeRole` for the client's role.",
        "The detail says whether the role's trust, or our own identity in `STS_*`, is at fault. Then retry.",
    ),
    "storage_address_refused": Help(
        "The endpoint of a client's bucket leads into a private network.",
        "Have the client name a public one, or list the network in `BUCKET_PRIVATE_NETWORKS`. Then retry.",
    ),
    "storage_locked": Help(
        "Object lock protects a version of an object.",
        "Lift the lock, or wait for its end. Then retry.",
    ),
    "storage_bucket_missing": Help(
        "There is no such bucket in this region.",
        "Look at `S3_BUCKET`, `S3_REGION`, `S3_ENDPOINT_URL`. Then retry.",
    ),
    "storage_incomplete": Help(
        "The storage answered with something else or with too much, left a part of an object, or its address cannot "
        "be used.",
        "The detail says which. Retry; if it stays, look at the storage's own log.",
    ),
    "worker_lost": Help(
        "The worker stopped in the middle of the work.",
        "Look for kills (memory, deploys) in the system's log. Retry.",
    ),
    "internal_error": Help(
        "An unexpected error; the detail has its type, or the SQLSTATE.",
        "Look for `claim.failed` in the worker's log. Report it. Retry when mended.",
    ),
    "database_lost": Help(
        "The connection to the database broke in the middle of the work.",
        "Look at the database server's log: does a statement of this service crash it? Then retry.",
    ),
    "machine_silent": Help(
        "A machine of Citus was lost in the middle of the work, again and again. The first time costs no attempt, "
        "and what lives on a silent machine is not tried.",
        "Look at that machine's log: does a statement of this service crash it? Then retry.",
    ),
    "erasure_incomplete": Help(
        "Verification still found rows. The detail names tables and numbers. The data is not gone.",
        "Retry: it erases what is left. If it comes back, something writes around the service, or it is a "
        "fault of ours: report it.",
    ),
    "bucket_secret_unreadable": Help(
        "The stored secret of a client's bucket does not open with the keys in `ENCRYPTION_KEYS`.",
        "Bring the key back, or set the bucket anew (`set_bucket`). Then retry.",
    ),
    "bucket_changed": Help(
        "A client's bucket was changed while something was being removed from it.",
        "Retry: what lies in the former one is forgotten.",
    ),
    "export_destination_missing": Help(
        "The chatbot's bucket was removed after the export was filed.",
        "Set one up. Then retry.",
    ),
    "export_file_lost": Help(
        "An uploaded file that was to be copied is not in the hosted bucket, or not as it was stored.",
        "Look for it in a backup of the bucket and put it back, then retry; or file the export again without files.",
    ),
    "extract_not_read": Help(
        "As `export_not_read`, of a day's extract.",
        "As there.",
    ),
    "export_not_read": Help(
        "The database could not be read; the detail has the SQLSTATE. `57014`: it took longer than 30 "
        "minutes, or 60 for JSON and pages together; to copy uploaded files may take as long again. Of several "
        "exports that are read together each is tried alone first.",
        "Mend the database, or find out why the bucket is slow. Retry.",
    ),
}
