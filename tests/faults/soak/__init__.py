"""The soak: clients and faults side by side for minutes or hours, and a model of what must have come of it.

    words.py        the planted words
    model.py        what was sent and filed, and what must follow
    caller.py       calls that are repeated until it is known what became of them
    circle.py       what one thread of a client knows
    sending.py      filing.py     following.py     reading.py     what clients do
    actor.py        a thread that does one of these after another
    receivers.py    the clients' own servers: callbacks, look-ups
    operating.py    what the operator does: retries, retention, extracts
    driver.py       faults, one after another
    outages.py      when there was which of them
    witness.py      somebody of whom nobody asks anything
    watching.py     memory and tables
    evidence.py     what is there at the end
    truth.py        what follows from the model and the evidence
    whole.py        what a conversation that nobody erases must be like
    rows.py         files.py       leftovers.py     checks of conversations, objects, words
    checks.py       all checks: the model against the evidence
    coverage.py     what must have been met, for all this to mean something
    soak.py         one run
    report.py       what it was, and what it found

`make soak` runs it, `python -m tests.faults.soak --help` says more.
"""
