"""The web server: gunicorn's processes, each with waitress inside (ADR 0032).

One thread of a process reads requests and writes answers, for all its connections; the others run the application,
and meet nothing but requests that are there whole. So whoever sends or reads slowly holds a connection, for a bounded
time, and never a thread. `settings` is what gunicorn starts with.
"""
