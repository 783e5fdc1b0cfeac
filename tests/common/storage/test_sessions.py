"""The memory that many client buckets cost a worker."""

import os
import subprocess
import sys

import pytest

from tests.functional.support import ROOT

# A process of its own: tests share what botocore reads from disk in any case.
_MANY = """
import re
import django
django.setup()
from pathlib import Path
from common.storage.s3 import ObjectStorage
from common.storage.sessions import CLIENT_CONFIG

def memory():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def use(number):
    storage = ObjectStorage(
        bucket_name=f"bucket-{number}", endpoint_url="http://127.0.0.1:9", region_name="us-east-1",
        access_key="key", secret_key="secret", client_config=CLIENT_CONFIG, guarded=True,
    )
    storage.client
    return storage

kept = [use(0)]
before = memory()
kept += [use(number) for number in range(1, 11)]
print((memory() - before) / 10)
"""


@pytest.mark.long(reason="a process is started that measures itself")
def test_a_session_takes_little_memory() -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    found = subprocess.run(
        [sys.executable, "-c", _MANY], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert float(found.stdout) < 3  # MB; 12 if each had read all for itself
