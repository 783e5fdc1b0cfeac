"""Hashing of passwords: one at a time, and excess callers are refused."""

import os
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, check_password, make_password

from accounts import hashing
from accounts.hashing import SerialHasher, TooBusy


@pytest.fixture(autouse=True)
def hasher(settings, monkeypatch) -> None:
    settings.PASSWORD_HASHERS = ["accounts.hashing.SerialHasher"]
    monkeypatch.setattr(PBKDF2PasswordHasher, "iterations", 1_000)  # a million takes a second


def test_hashes_are_djangos_own():
    stored = make_password("secret")
    assert PBKDF2PasswordHasher().verify("secret", stored)
    assert check_password("secret", stored)
    assert not check_password("wrong", stored)


def test_one_password_is_hashed_at_a_time_one_waits_and_others_are_refused(monkeypatch):
    at_work, most, go_on = Counter[str](), [], threading.Event()

    def slow(*_: object) -> str:
        at_work["now"] += 1
        most.append(at_work["now"])
        assert go_on.wait(30)
        at_work["now"] -= 1
        return "hash"

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", slow)

    def hash_one(_: int) -> str:
        try:
            return SerialHasher().encode("secret", "salt")
        except TooBusy:
            return "busy"

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(hash_one, number) for number in range(6)]
        assert [one.result() for one in islice(as_completed(asked), 4)] == ["busy"] * 4
        go_on.set()
        assert Counter(one.result() for one in asked) == {"busy": 4, "hash": 2}
    assert most == [1, 1]


def test_the_hashing_thread_has_a_low_priority():
    pool, _ = hashing._of_process(os.getpid())
    niceness = pool.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result()
    assert niceness == min(19, max(hashing._NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


def test_a_forked_process_has_its_own_hashing_thread():
    make_password("before")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads is the point
        pid = os.fork()
    if pid == 0:
        os._exit(0 if make_password("after").startswith("pbkdf2_sha256$") else 1)
    assert os.waitpid(pid, 0)[1] == 0
