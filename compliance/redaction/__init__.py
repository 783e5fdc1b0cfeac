"""Redactions: the text and the files of single messages are removed, or a CSAT comment, and all else stays."""
