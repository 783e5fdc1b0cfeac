"""Notify clients of their requests' outcomes: signed calls to their receivers, from a queue in the database.

`work.outbox` queues a row in the transaction that changes a request's state; `queue` finds the due rows and processes
the outcomes; `client` makes one call; `work.dispatcher` is a worker's turn at it; `resend` and `trial` send callbacks
on demand.
"""
