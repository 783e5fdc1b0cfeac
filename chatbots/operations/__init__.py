"""Operations on chatbots, their variables, keys and members, for the commands and the console.

Each is one transaction, change-log entries included. A refusal is a ValidationError with messages by field, each
with the remedy.
"""
