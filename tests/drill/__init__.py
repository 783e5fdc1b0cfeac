"""The drill: lose the database, restore it, and search for erased chatters (`make drill`).

scene.py        the people of a service        happenings.py   what happens before and after the backup
ways.py         the ways to restore            checks.py       what must hold
"""

WAYS = ("dump", "copy", "replica", "staging")
