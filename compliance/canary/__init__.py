"""The canary: a standing proof, by the same doors as everybody, that a deletion leaves nothing (ADR 0056).

    words    what is planted, and how it is recognised, also encoded
    client   calls the service as a client does, over HTTP
    api, bucket, rows, logs    look for the words, each in one kind of place
    report   what a step finds, and what keeps it from looking
    steps    what each step of a turn does
    turns    one turn at a time, step by step

Nothing here asks the code that erases what it has done. Before the deletion the same search must find the words; a
search that is blind proves nothing afterwards.
"""
