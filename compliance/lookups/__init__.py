"""Look up who a chatter is: signed calls to the resolvers that clients run, from a queue in the database.

Intake queues (`conversations.lookups`); `queue` says which are due and what becomes of them; `client` makes one call
and reads its answer; `work.dispatcher` is a worker's turn at it; `trial` is the call that an officer tries.
"""
