"""Pages that file requests: a preview comes first, and a deletion is confirmed by typing.

Nothing is stored between the steps: the browser gets the preview and its subject encrypted, and sends them with the
next form. No URL, title, session or message contains a chatter's value.
"""
