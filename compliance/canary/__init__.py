"""The canary: a standing proof, through the interfaces of clients, that a deletion leaves nothing (ADR 0056).

    words    the planted words, and the search for them, also encoded
    client   calls the service as a client does, over HTTP
    api, bucket, rows, logs    search for the words, each in one kind of place
    errors   what could not be done or searched
    work     what a step works with, and what it finds
    steps    the steps of a turn
    turns    one turn at a time, step by step

The search is independent of the code that erases. Before the deletion the same search must find the words: a search
that finds nothing then proves nothing afterwards.
"""
