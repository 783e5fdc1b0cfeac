"""User data settings: one page with all settings of a chatbot, and an action for each save."""
