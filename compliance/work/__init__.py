"""The work on requests: how workers claim them, in which order, and the changes of their states."""
