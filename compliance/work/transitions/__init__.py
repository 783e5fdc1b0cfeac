"""Every change of a request's state by a worker, each in a transaction that holds the claim."""
