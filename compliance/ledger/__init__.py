"""The erasure ledger: what was promised and what was erased, by keyed digest, outside of the database.

A database that is restored from a backup contains the people again who were erased since, and has forgotten what was
promised since. The ledger is in the hosted bucket, so it survives the restore: it says what must be erased once more.

    service     this service's identity, and whether its database was restored
    content     an object of the ledger: a header, lines, and the HMAC of both
    lines       what the lines say: request ids, public ids, keyed digests, cutoffs; no value and no text
    objects     write an object: its row is committed first, then the object is written
    journal     what was accepted, withdrawn or revoked, written every few seconds; and again what the bucket lost
    tripwire    compare the ledger with the database: an object that it does not know means a restore
    closed      what answers in place of a restored database, and which commands run beside one

Written before the database acts on it: a deletion's conversations are marked only once an object names the request,
and it completes only once an object has exactly what it has erased. `compliance.replay` reads the ledger.
"""
