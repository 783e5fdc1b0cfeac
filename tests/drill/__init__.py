"""The drill: lose the database, restore it, and look for who was erased (`make drill`)."""

WAYS = ("dump", "copy", "replica", "staging")
