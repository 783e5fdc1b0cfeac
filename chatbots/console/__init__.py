"""The console: the pages of the Django admin, and the pages of our own that stand among them.

The admin stays the base: its login, its site, its forms for users. What support staff use daily are own pages below
`/admin/`, plain views with templates, in the URL namespace `console`:

    scope.py        who sees and does what: each view asks here, and nowhere else
    pages.py        what each own page has in common: who may open it, how it is answered
    navigation.py   the entries at the side
    paging.py       lists in pages, by sealed cursors
    urls.py         the paths of this app's pages; `conversations` and `compliance` have one each

The look is in `static/console/console.css`, the frame around all pages in `templates/console/shell.html`.
"""
