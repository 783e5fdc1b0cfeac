"""The Daily Conversations Extract: which days there are (`days`), what makes one stale (`lateness`, and erasure in
compliance), who makes it (`work`) and how (`making`)."""
