"""The dashboard, workers, exports, daily extracts, callbacks and email notifications."""
