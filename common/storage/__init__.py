"""Object storage: writes, reads and removes objects. The only package that imports botocore."""

from common.storage.errors import StorageError
from common.storage.listing import OpenUpload, Version
from common.storage.s3 import PART_BYTES, ObjectStorage, Written

__all__ = ["PART_BYTES", "ObjectStorage", "OpenUpload", "StorageError", "Version", "Written"]
