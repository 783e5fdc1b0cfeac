"""The oracle: the clients' calls and their answers, and what must and must not remain of them.

Recorded:

    words.py         planted words: any remaining data identifies its chatter
    model.py         conversations, chatters and requests, and their expected states
    client_state.py  the state of one thread of a client
    caller.py        calls of the API: one attempt, or repeated until the outcome is known
    sending.py       filing.py      following.py    the acts of clients
    violations.py    violations, and the faults of the run

Found, and compared with that:

    evidence.py      rows, objects in every version, logs, usage, callbacks
    comparison.py    the results of model and evidence together
    checks.py        all checks
    conversations.py exports.py     leftovers.py    their parts
    scene.py         planted.py     a clean ending; each kind of violation, planted in it

None of it imports the service. Its drivers are `tests/faults`, `tests/faults/soak`, `tests/stress` and `tests/drill`.
"""
