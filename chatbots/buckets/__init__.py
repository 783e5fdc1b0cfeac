"""The bucket of a chatbot's files, its availability, and its permissions."""

from chatbots.buckets.locations import StorageLocation, hosted_location, hosted_storage, location_of
from chatbots.buckets.probe import Step, probe

__all__ = ["Step", "StorageLocation", "hosted_location", "hosted_storage", "location_of", "probe"]
