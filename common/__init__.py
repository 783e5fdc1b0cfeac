"""A library that knows no model of ours and nothing of the project around it."""
