"""What Django's admin shows of this app; a chatbot has pages of its own in `chatbots/console/`."""

from chatbots.access import admin as _access_admin  # noqa: F401  (registers its models)
