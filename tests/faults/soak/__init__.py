"""The soak: clients and faults side by side for minutes or hours, and the oracle's judgement of what came of it.

    actor.py       a thread that does one thing of a client after another
    reading.py     what clients read beside what they send, file and follow (`tests/oracle`)
    receivers.py   the clients' own servers: callbacks, look-ups
    operating.py   what the operator does: retries, retention, extracts
    driver.py      faults, one after another
    control.py     somebody of whom nobody asks anything
    watching.py    memory and tables
    coverage.py    what must have been met, for all this to mean something
    soak.py        one run
    report.py      what it was, and what it found

`make soak` runs it, `python -m tests.faults.soak --help` says more.
"""
