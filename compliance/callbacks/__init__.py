"""Tell clients what became of their requests: signed calls to their receivers, from a queue in the database.

`announcing` queues a row in the transaction that changes a request's state; `claiming` takes rows that are due and
notes what became of them; `sending` makes one call; `delivering` is a worker's turn at it; `resending` is what people
and clients ask for.
"""
