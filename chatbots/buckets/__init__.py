"""Buckets: where a chatbot's files lie, and how they are written, read and removed there for good."""

from chatbots.buckets.errors import StorageError
from chatbots.buckets.parts import PART_BYTES
from chatbots.buckets.places import Place, hosted_place, hosted_storage, place_of
from chatbots.buckets.probe import Step, probe
from chatbots.buckets.removal import Version
from chatbots.buckets.storage import ObjectStorage, OpenUpload, Written

__all__ = [
    "PART_BYTES",
    "ObjectStorage",
    "OpenUpload",
    "Place",
    "Step",
    "StorageError",
    "Version",
    "Written",
    "hosted_place",
    "hosted_storage",
    "place_of",
    "probe",
]
