"""What all pages of the console share.

scope.py        who sees and does what: each view asks here, and nowhere else
pages.py        what each own page has in common: who may open it, how it is answered
navigation.py   the entries at the side
paging.py       lists in pages, by sealed cursors
"""
