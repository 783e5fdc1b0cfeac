"""A library without models of ours. It imports nothing of the project around it."""
