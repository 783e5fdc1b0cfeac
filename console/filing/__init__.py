"""Pages that file requests: what would happen is shown first, and a deletion is confirmed by typing.

Nothing is stored between the steps: what was shown, and what it was about, goes to the browser sealed and comes back
in the next form. No chatter's value stands in an address, a title, a session or a message.
"""
