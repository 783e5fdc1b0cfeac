"""Mails to officers: what failed, is held, is due soon or overdue.

The sweep's task finds what is new in the requests themselves (`detect`), so no change of a request has to write
anything for it; mails gather what an officer was not told yet (`outbox`, `message`), and `delivery` sends them.
"""
