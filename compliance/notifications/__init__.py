"""Mails to officers: what failed, is held, is due soon or overdue.

The sweep's task finds new events in the requests themselves (`outbox`), so no change of a request has to write
anything for it; `delivery` gathers an officer's unsent ones in a mail and sends it.
"""
