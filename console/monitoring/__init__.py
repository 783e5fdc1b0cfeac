"""Pages to watch by: the dashboard, the workers, exports, callbacks, and who gets mails."""
