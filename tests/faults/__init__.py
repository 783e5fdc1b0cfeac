"""Faults of a whole service: a site with its own servers and processes, the faults, and the checks after them.

    site.py        the site: PostgreSQL, an S3 server, a web server, clusters
    processes.py   what runs on this machine
    wire.py        a connection to a server that can be cut, slowed, silenced
    disk.py        a small file system that can be filled
    catalogue.py   FAULTS: how each is caused, and mended
    dying.py       a cluster whose workers kill themselves at given steps
    company.py     people of two chatbots, and requests about them, which the oracle judges
    site_checks.py what must hold of a site as a whole, whatever happened
    plants.py      what must be found
    soak/          the soak

`tests/oracle` knows what must be true afterwards. None of these modules needs pytest or Django's settings.
`make faults` runs the tests, `make soak` measures.
"""
