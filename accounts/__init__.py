"""Staff: log-in, second factor, lockouts and sessions."""
