"""Notify clients of their requests' outcomes: signed calls to their receivers, from a queue in the database.

`work.outbox` queues a row in the transaction that changes a request's state; `leases` takes rows that are due and
records the outcomes; `client` makes one call; `dispatcher` is a worker's turn at it; `resend` is what people
and clients ask for.
"""
