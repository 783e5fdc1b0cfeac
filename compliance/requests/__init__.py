"""Requests: file (`submit`), decide (`decisions`), find and preview.

API, console and commands each make one call into here. Each operation is one transaction: the request and its
change-log entry. The workers are notified after the commit. Changes by workers are in `compliance/work/transitions/`.

    accepted -> processing -> completed | failed       (workers)
    accepted -> on_hold -> accepted | rejected         (workers hold; approve, reject)
    accepted -> accepted                               (start now, before its time to cancel is over)
    accepted, on_hold -> cancelled                     (cancel; never once a deletion has marked)
    failed -> accepted                                 (retry, at the end of the queue)

A deadline is extended, and an answer recorded, without a change of the state.
"""
