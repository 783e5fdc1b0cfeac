"""Compare rows and objects of the storage: scan both, report orphaned and missing objects, repair them."""
