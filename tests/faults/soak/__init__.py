"""The soak: clients and faults side by side for minutes or hours, and the oracle's judgement of the result.

    acting.py      threads that do one thing of a client after another
    receivers.py   the clients' own servers: callbacks, look-ups
    operating.py   what the operator does: retries, retention, extracts
    driver.py      faults, one after another
    soak.py        one run, the memory that it took, what it must have met to mean something, and its report

`make soak` runs it, `python -m tests.faults.soak --help` says more.
"""
