"""Object storage: how objects are written, read and removed for good. Alone knows boto3."""

from common.storage.errors import StorageError
from common.storage.parts import PART_BYTES
from common.storage.removal import Version
from common.storage.s3 import ObjectStorage, OpenUpload, Written

__all__ = ["PART_BYTES", "ObjectStorage", "OpenUpload", "StorageError", "Version", "Written"]
