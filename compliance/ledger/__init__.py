"""The erasure ledger: promised and completed erasures, by keyed digest, outside of the database.

A database that is restored from a backup contains people again who were erased since, and lacks the promises made
since. The ledger is in the hosted bucket, so it survives the restore: it lists what must be erased once more.

    service     this service's identity, and whether its database was restored
    content     an object of the ledger: a header, lines, and the HMAC of both
    lines       the content of lines: request ids, public ids, keyed digests, cutoffs; no value and no text
    objects     write an object: its row is committed first, then the object is written
    journal     accepted, withdrawn and revoked: written every few seconds; rewrites objects that the bucket lost
    tripwire    compare the ledger with the database: an object without a row means a restore
    closed      the responses of a restored database, and the commands that may run

Objects are written before the database acts on them: a deletion's conversations are marked only once an object
contains the request, and it completes only once an object contains exactly what it has erased. `compliance.replay`
reads the ledger.
"""
