"""Look up the identities of chatters: signed calls to the clients' resolvers, from a queue in the database.

Intake queues (`conversations.lookups`); `queue` finds the due ones and processes the outcomes; `client` makes one
call and reads its answer; `work.dispatcher` is a worker's turn at it; `trial` is an officer's test call.
"""
