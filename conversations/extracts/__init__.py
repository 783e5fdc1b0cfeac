"""Daily extracts: their days (`days`), the workers' leases on them (`leases`), and their files (`builder`)."""
