"""Which bucket a chatbot's files go to, whether it answers, and what it grants."""

from chatbots.buckets.locations import StorageLocation, hosted_location, hosted_storage, location_of
from chatbots.buckets.probe import Step, probe

__all__ = ["Step", "StorageLocation", "hosted_location", "hosted_storage", "location_of", "probe"]
