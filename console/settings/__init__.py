"""User data settings: the pages of a chatbot's settings, and an action for each form."""
