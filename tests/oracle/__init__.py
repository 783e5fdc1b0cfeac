"""The oracle: what clients sent and what they were answered, and what must and must not remain of it.

What is recorded:

    words.py         planted words: whatever is left of somebody says whose it is
    model.py         conversations, chatters and requests, and what must follow from them
    client_state.py  what one thread of a client knows
    caller.py        calls of the API: one attempt, and repeated until it is known what became of it
    sending.py       filing.py      following.py    what clients do
    violations.py    what is not as it must be, and which faults there were

What is found, and compared with that:

    evidence.py      rows, objects in every version, logs, usage, callbacks
    comparison.py    what follows from the model and the evidence together
    checks.py        all checks
    conversations.py exports.py     leftovers.py    their parts
    scene.py         planted.py     a clean ending; each kind of violation, planted in it

None of it imports the service. Its drivers are `tests/faults`, `tests/faults/soak`, `tests/stress` and `tests/drill`.
"""
