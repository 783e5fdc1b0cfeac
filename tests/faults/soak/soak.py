"""One run: the chatbots and their clients, the faults, the quiet at the end, and the checks."""

import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.faults import site_checks
from tests.faults.catalogue import FAULTS
from tests.faults.processes import family_of
from tests.faults.site import Site
from tests.faults.soak.acting import Actor
from tests.faults.soak.driver import Driver, faults_of
from tests.faults.soak.operating import Operator
from tests.faults.soak.receivers import Receivers, receiving
from tests.faults.wire import Wire
from tests.operated import wait_until
from tests.oracle import evidence, filing, sending
from tests.oracle.caller import Client
from tests.oracle.checks import Checks
from tests.oracle.client_state import ClientState, IdentityKey, Known
from tests.oracle.comparison import Findings

# The chatbots: with everything; with a client's bucket; with a retention period; the control's, and the probes'.
HOSTED, CLIENT, AGED, STILL = BOTS = ("hosted", "client", "aged", "still")
CLIENT_BUCKET = "client-files"
DISK_BYTES = 768 * 1024 * 1024
# The MiB by which a process may grow, once it has done some work.
_MOST_GROWTH = 128
_MOST_TASKS = 50
_QUIET_SECONDS, _PROGRESS_SECONDS = 300.0, 30.0
# The number of threads of clients, besides one more.
_CLIENTS = 3
_NAMESAKES = 3
_OPEN = "SELECT count(*) FROM compliance_compliancerequest WHERE status NOT IN ('completed', 'cancelled', 'rejected')"
# Work that must be done in the end by itself: its waiting rows, and the change that skips their pauses. Callbacks are
# promised, but not their time.
_WAITS = {
    "what came late is erased": (
        "conversations_conversation",
        "deletion_request_id IS NOT NULL AND deleted_at IS NULL",
        "",
    ),
    "all callbacks are delivered": ("compliance_callback", "state = 'waiting'", "next_attempt_at = now()"),
    "all chatters are looked up": ("conversations_identitylookup", "state = 'pending'", "next_attempt_at = now()"),
    "all daily extracts are rebuilt": (
        "conversations_dailyextract",
        "state IN ('pending', 'stale')",
        "stale_at = stale_at - interval '1 minute', next_attempt_at = now()",
    ),
}

# The acts and checks that a run must contain: a check without items has shown nothing. Shorter runs, and runs with
# few faults, need not contain all.
_LONG = 600.0
_CALLS = (
    *("documents", "lines of documents", "resent document", "late document", "document of an erased chatter"),
    *("upload", "identify", "deletion", "deletion again", "export", "export again", "batch", "cancel", "redaction"),
    "legal hold",
    *("status", "one request", "requests", "lookup of requests", "download", "preview", "usage"),
    *("one conversation", "messages", "log", "lookup of conversations"),
)
_MET = (
    *("conversations whole", "conversations gone", "conversations of two chatters", "messages redacted"),
    "comments redacted",
    *("exports (hosted)", "exports (client)", "copies of files", "exports that outlive what they hold"),
    *("uploaded files", "messages in daily extracts", "callbacks", "chatters looked up"),
    *("erased chatters who live in another chatbot", "deletions completed", "deletions cancelled"),
    *("exports completed", "redactions completed", "retentions completed"),
)
_DONE = ("retain", "make_days", "held deletions")


class Watcher(threading.Thread):
    """Reads the memory of the programs that no fault affects every five seconds. `memory` are MiB."""

    def __init__(self, site: Site, over: threading.Event) -> None:
        super().__init__(name="watcher", daemon=True)
        self.memory: dict[str, list[int]] = defaultdict(list)
        self._site, self._over = site, over

    def run(self) -> None:
        while not self._over.wait(5):
            self.look()

    def look(self) -> None:
        for name in self._site.steady:
            kinds = self._site.kinds(name)
            for pid in family_of(self._site.pid(name)):
                with suppress(OSError):  # it has ended
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                    sizes = [int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:")]
                    self.memory[f"{name} {kinds.get(pid, '')} {pid}"] += sizes


@dataclass
class Soak:
    """A context is entered to set up; then `run`, and `look`, which may be called again.

    `only` faults whose name has one of these words are caused, with a `pause` between two of them.
    """

    folder: Path
    seed: int = 1
    seconds: float = 1200.0
    pause: tuple[float, float] = (4.0, 8.0)
    only: Collection[str] = ()
    known: Known = field(default_factory=Known)

    def __enter__(self) -> "Soak":
        self._exits = ExitStack()
        try:
            self._set_up()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._exits.close()

    # --- Before ------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        enter = self._exits.enter_context
        self.model, self.violations = self.known.model, self.known.violations
        self.over = threading.Event()
        self.receivers: Receivers = enter(receiving(self.violations, seed=self.seed))
        self.site: Site = enter(Site(self.folder, disk_bytes=DISK_BYTES, steady=True))
        self.client_wire = enter(Wire(self.site.s3_wire.target))
        with self.site.keys.client() as s3:
            s3.create_bucket(Bucket=CLIENT_BUCKET)
        self.site.keep_versions(CLIENT_BUCKET)
        with ThreadPoolExecutor(2) as pool:
            self.states = dict(zip(BOTS, pool.map(self._found, BOTS), strict=True))
        still, hosted = self.states[STILL], self.states[HOSTED]
        faults = FAULTS | faults_of(self.receivers, self.client_wire)
        chosen = {name: faults[name] for name in faults if not self.only or any(word in name for word in self.only)}
        over = self.over
        self.driver = Driver(self.site, still, chosen, seed=self.seed + 1, pause=self.pause, over=over)
        self.actors = [self._actor(number) for number in range(_CLIENTS + 1)]
        clients, every = [actor.state for actor in self.actors], max(15.0, self.seconds / 16)
        self.operator = Operator(self.site, self.states[AGED], clients, over=over, every=every)
        self.operator.begin()
        # Chatters of one chatbot have namesakes in the other, who get no request but one export.
        for _ in range(_NAMESAKES):
            value = hosted.new_person().value
            for state in (still, hosted):
                sending.store(state, value)
        filing.file(still, filing.export_of(still, value))
        self.watcher = Watcher(self.site, over)

    def _found(self, bot: str) -> ClientState:
        site, words = self.site, ["--variable", "user_channel:session"]
        client = site.create_chatbot(bot, *words, *(["--enable-extracts"] if bot == HOSTED else []))
        self.receivers.secrets[bot] = site.manage("create_callback_secret", bot, "--json").document["secret"]
        # Repeated signatures are not checked.
        site.manage("set_chatbot", bot, "--callback-url", self.receivers.url("hook", bot))
        key = None
        if bot == HOSTED:
            made = site.manage("create_api_key", bot, "--type", "identity", "--label", "soak", "--json").document
            key = IdentityKey(made["secret"], made["kid"], made["aud"])
            where = ("--url", self.receivers.url("who", bot), "--send", "session", "--session-token", "session")
            site.manage("set_resolver", bot, *where)
        if bot == CLIENT:
            own = site.s3.s3
            words = ["--bucket", CLIENT_BUCKET, "--endpoint", self.client_wire.address, "--region", "us-east-1"]
            secret = ["--access-key-id", own.access_key_id, "--secret-file", "-"]
            site.manage("set_bucket", bot, *words, *secret, stdin=own.secret_access_key)
        return self._state(client, key)

    def _state(self, client: Client, key: IdentityKey | None, number: int = 0) -> ClientState:
        # The times of the driver's requests are measured.
        longest_pause = 0.2 if client.slug == STILL else 2.0
        seed = f"{self.seed} {client.slug} {number}"
        of = {"identity_key": key, "sessions": self.receivers.sessions, "read": self._read}
        return self.known.state(client, seed, longest_pause=longest_pause, **of)

    def _actor(self, number: int) -> Actor:
        """Make a thread: the first has a client's bucket, all others the hosted one, and each its own chatters.

        The last calls the web server that lives through all of it.
        """
        state = self.states[CLIENT if number == 0 else HOSTED]
        if number > 1:
            client = state.caller.client
            client = client.at(self.site.steady_address) if number == _CLIENTS else client
            state = self._state(client, state.identity_key, number)
        return Actor(state, self.over)

    def _read(self, key: str) -> bytes | None:
        """Return a file of the client's bucket, past its wire."""
        for _ in range(60):
            try:
                with self.site.keys.client() as s3:
                    return bytes(s3.get_object(Bucket=CLIENT_BUCKET, Key=key)["Body"].read())
            except ClientError as error:
                if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
                    return None
            except BotoCoreError:
                pass
            time.sleep(0.5)
        raise TimeoutError("The client's bucket cannot be read.")

    # --- During ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run everything for the planned time, then be quiet until all requests are over."""
        began = time.monotonic()
        self.violations.began = began
        threads = [self.watcher, *self.actors, self.operator, self.driver]
        for thread in threads:
            thread.start()
        while (left := self.seconds - (time.monotonic() - began)) > 0:
            time.sleep(min(left, _PROGRESS_SECONDS))
            self.tell(time.monotonic() - began)
        self.over.set()
        for thread in threads:
            thread.join()
        self._be_quiet()

    def tell(self, seconds: float) -> None:
        for one in self.violations.news():
            sys.stderr.write(f"VIOLATION {one}\n")
        statuses = Counter(one.status for one in self.model.filed if one.id)
        told = f"{seconds:5.0f} s  {self.known.traffic.calls.total()} calls, requests: {dict(statuses)}, "
        told += f"{self.driver.caused.total()} faults, {self.violations.counts.total()} violations"
        present = self.violations.outages.present
        sys.stderr.write(f"{told}{', now: ' * bool(present)}{present}\n")

    def _be_quiet(self) -> None:
        """Wait until all requests are over, failed ones are retried, and all timed work is done."""
        self._wait_for_requests()
        # The run of a day after the last old conversation was sent.
        self.operator.end_day()
        self.operator.make_days()
        self.operator.note_run("completed" if self._wait_for_requests() else "failed")
        for actor in (*self.actors, Actor(self.states[STILL], self.over)):
            actor.follow_all()
        for what, (table, wait, pass_) in _WAITS.items():

            def is_done(table: str = table, wait: str = wait, pass_: str = pass_) -> bool:
                if pass_:
                    self.site.sql(f"UPDATE {table} SET {pass_} WHERE {wait} AND token IS NULL")
                return self.site.sql(f"SELECT count(*) FROM {table} WHERE {wait}") == [(0,)]

            try:
                wait_until(is_done, what, seconds=200)
            except TimeoutError as error:
                self.violations.add("not ended", str(error))
        self.watcher.look()

    def _wait_for_requests(self) -> bool:
        """Wait until all requests are over, and return whether they are. Failed ones are retried."""
        end = time.monotonic() + _QUIET_SECONDS
        while time.monotonic() < end:
            if self.site.sql(_OPEN) == [(0,)]:
                return True
            self.operator.attempt(self.operator.retry)
            self.operator.attempt(self.operator.release_holds)
            time.sleep(1)
        return False

    # --- After -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare everything with the model, and record the violations."""
        callers = {bot: state.caller for bot, state in self.states.items()}
        found = evidence.gather(self.site, callers, taken=self.receivers.taken, client_bucket=CLIENT_BUCKET)
        sessions = self.receivers.told.keys() - self.receivers.lied_to
        outages = self.violations.outages
        checks = Checks(self.model, found, sessions=sessions, callbacks=BOTS, outages=outages)
        for kind, what in (*checks.all(), *site_checks.of_site(self.site, found), *self._of_resources()):
            self.violations.add(kind, what)
        self.met = checks.comparison.met
        faults = self.driver.caused.total()
        self.unmet = unmet(self.known.traffic.calls, self.met, self.operator.done, faults)
        if self.unmet and self.seconds >= _LONG and not self.only:
            self.violations.add("nothing met", ", ".join(self.unmet))

    def _of_resources(self) -> Findings:
        for name, sizes in self.watcher.memory.items():
            # In its first 20 seconds a process does not yet have the memory that it needs.
            if max(sizes) - max(sizes[:4]) > _MOST_GROWTH:
                yield "memory", f"a process ({name}) has grown from {max(sizes[:4])} to {max(sizes)} MiB"
        for name, most in (("compliance_claim", 0), ("django_q_ormq", _MOST_TASKS)):
            [(left,)] = self.site.sql(f"SELECT count(*) FROM {name}")
            if left > most:
                yield "queue", f"{left} rows of {name} are left, though all requests are over"

    def report(self) -> dict[str, Any]:
        filed = [one for one in self.model.filed if one.id]
        stored = [conversation for conversation in self.model.conversations if conversation.number is not None]
        outages, recoveries = self.violations.outages.over, sorted(self.driver.recoveries.items())
        return {
            "plan": f"seed {self.seed}, {self.seconds:.0f} s",
            "calls": dict(self.known.traffic.calls.most_common()),
            "answers": dict(self.known.traffic.answers.most_common()),
            "conversations": len(stored),
            "messages": sum(len(conversation.texts) for conversation in stored),
            "requests": dict(sorted(Counter(f"{one.kind} {one.status}" for one in filed).items())),
            "receivers": dict(self.receivers.counts),
            "retried": dict(self.operator.retried),
            "met": {name: number for name, number in sorted(self.met.items()) if number},
            "not met": self.unmet,
            "recoveries": {
                name: f"{len(all_of)} times, median {statistics.median(all_of):.1f} s, worst {max(all_of):.1f} s"
                for name, all_of in recoveries
            },
            "outages": [f"{one.name}: {one.since:%H:%M:%S} to {one.until:%H:%M:%S} (UTC)" for one in outages],
            "not caused": self.driver.prevented,
            "MiB": {
                name: f"{max(sizes[:4])} at first, {sizes[-1]} at last, {max(sizes)} at most"
                for name, sizes in self.watcher.memory.items()
            },
            "violations": [str(one) for one in self.violations.kept],
            "violations by kind": dict(self.violations.counts),
        }


def unmet(calls: Mapping[str, int], met: Counter[str], done: Counter[str], faults: int) -> list[str]:
    found = [f"call: {name}" for name in _CALLS if not calls.get(name)]
    found += [f"check: {name}" for name in _MET if not met[name]]
    found += [f"operator: {name}" for name in _DONE if not done[name]]
    return found + ([] if faults else ["any fault"])
