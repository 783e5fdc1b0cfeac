"""Shared by all pages of the console.

scope.py        permissions: every view checks them here
pages.py        decorators and responses of pages
lists.py        lists in pages, by cursor
navigation.py   the side menu
"""
