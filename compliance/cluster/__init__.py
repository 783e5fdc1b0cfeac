"""The processes that run the tasks (ADR 0031), and how they are notified (ADR 0001). What the tasks do is above.

`notify` inserts tasks; `broker` takes and runs them; `supervision` starts the processes, and ends them together;
`heartbeats` records which clusters are alive; `background` has a worker's threads; `occurrences` records the times of
the last occurrences. Only `broker` and `supervision` use django-q2.
"""
