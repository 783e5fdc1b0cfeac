"""A stress test of erasure and export from outside: random stories, and a model that says what must hold.

    stories         a story is a list of rules, a line of words each; how one is made up, shortened and printed
    truth           the model: what was said, uploaded and asked for, when, and what follows from it
    world           carries the rules out: calls of the API, commands, the worker's functions
    officers        carries out what officers change
    circumstances   time that passes, and a storage that refuses
    restores        a backup, the loss of the database, and what the model makes of it
    sessions        a client's server that identifies chatters, and the results of its answers
    actors          threads that can be stopped between any two statements or calls to the storage, and killed there
    looking         the evidence: what is in the database and in the bucket
    invariants      what must hold, when a request is seen completed, after a restore, and at the end
    texts           what is written on requests, and what must have become of it
    running         plays one story after another, and looks for the shortest that fails

Words, model, evidence and most checks of the end are those of `tests/oracle`.
None of it knows how erasure and export work inside, so it stays as it is when they are written anew.
"""
