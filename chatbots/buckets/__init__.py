"""Which bucket a chatbot's files go to, whether it answers, and what it grants."""

from chatbots.buckets.locations import Place, hosted_place, hosted_storage, place_of
from chatbots.buckets.probe import Step, probe

__all__ = ["Place", "Step", "hosted_place", "hosted_storage", "place_of", "probe"]
