"""Mails to officers: at once about requests that failed or are held, once a day about those overdue or due soon.

The sweep's task finds new events in the requests themselves (`outbox`), so no change of a request has to write a
notice; `digest` finds the officers whose daily digest is due; `delivery` writes the mails and sends them.
"""
