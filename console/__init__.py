"""The console: the pages under `/admin/`, plain views with templates in the URL namespace `console` (`urls.py`).

    common/         shared by all pages: permissions, the page decorators, lists
    requests/       the list of requests, the page of a request, decisions
    filing/         file a deletion or an export, for one chatter or many
    conversations/  the log, transcripts, daily extracts
    settings/       the settings of a chatbot
    monitoring/     the dashboard, workers, exports, daily extracts, callbacks, email notifications
    admin/          Django's own admin pages, for superusers: users, and records for operators

Styles are in `static/console/console.css`, the frame of all pages in `templates/console/shell.html`.
"""
