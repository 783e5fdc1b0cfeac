"""Rows and objects of the storage compared: scan both, report what is orphaned or missing, repair it."""
