"""Daily extracts: their days (`days`), who builds one (`leases`), and how (`builder`)."""
