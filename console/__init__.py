"""The console: the pages of the Django admin, and the pages of our own that stand among them.

The admin stays the base: its login, its site, its forms for users (`admin.py`). What support staff use daily are own
pages below `/admin/`, plain views with templates, in the URL namespace `console`:

    common/         what all pages share: who sees and does what, the frame, lists in pages
    requests/       the list of requests, and the page of one
    filing/         file a deletion or an export, of one chatter or of many
    conversations/  the log, transcripts, daily extracts
    settings/       set up data compliance for a chatbot
    monitoring/     the dashboard, callbacks, exports, workers, mails

The look is in `static/console/console.css`, the frame around all pages in `templates/console/shell.html`.
"""
