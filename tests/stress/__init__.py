"""A stress test of erasure and export from outside: random stories, and a model that says what must hold.

    stories     a story is a list of plain tuples; how one is made up, shortened and printed
    extras      what is drawn into some of them: texts, delivered exports, late files, redactions that meet others
    disasters   as that: restores, and what officers change
    truth       the model: what was said, uploaded and asked for, and what follows from it
    world       carries the tuples out: calls of the API, commands, the worker's functions, time that passes
    officers    carries out what officers change
    restores    a backup, the loss of the database, and what the model makes of it
    passing     time that passes
    sessions    a client's server that is asked who somebody is, and what became of its answers
    actors      threads that can be stopped between any two statements or calls to the storage, and killed there
    faults      a storage that refuses
    looking     what is in the database and in the bucket
    invariants  what must hold, when a deletion is seen completed and at the end
    texts       what is written on requests, and what must have become of it
    copies      what must hold of exports that are delivered, kept or made again
    running     plays a story, rule by rule or in several threads at once
    searching   plays one after another, and looks for the shortest that fails

None of it knows how erasure and export work inside, so it stays as it is when they are written anew.
"""
