"""Mails to officers about requests that failed, are held, due soon or overdue.

The sweep's task finds new events in the requests themselves (`outbox`), so no change of a request has to write a
notice; `delivery` collects an officer's unsent notices in a mail and sends it.
"""
