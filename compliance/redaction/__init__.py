"""Redactions: the text and the files of single messages are removed, and the messages stay."""
