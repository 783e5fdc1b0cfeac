"""The drill's ways to lose and restore a database: each sets the scene, restores, and checks what must hold."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from devservers.postgres import DATABASE
from devservers.s3 import SeaweedFS
from scripts.demo_story import require
from tests.drill import checks as check
from tests.drill.happenings import after_the_backup, before_the_backup, work_on_unaware
from tests.drill.scene import FERRIES, ORCHARD, Scene
from tests.drill.site import Log, Service
from tests.operated import WEB, WORKER, Database, Keys, wait_until

_GRANT = ("grant_roles", "--web", WEB, "--worker", WORKER)
# How long workers may take to notice a restore: they look at their start and each minute. With the time of a start.
NOTICED_SECONDS = 60.0
_STARTING_SECONDS = 30.0


# So that what is lost is older than what a failover loses.
_TWO_HOURS_AGO = """
CREATE FUNCTION drill_two_hours_ago() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.at := NEW.at - interval '2 hours';
    NEW.key := regexp_replace(
        NEW.key, '[0-9]{4}/[0-9]{2}/[0-9]{2}/[0-9]{6}', to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY/MM/DD/HH24MISS'));
    RETURN NEW;
END $$;
CREATE TRIGGER drill_two_hours_ago BEFORE INSERT ON compliance_ledgerobject
    FOR EACH ROW EXECUTE FUNCTION drill_two_hours_ago()
"""
_NOW = """
DROP FUNCTION drill_two_hours_ago() CASCADE;
UPDATE compliance_service SET checked_at = checked_at - interval '2 hours'
"""


class Drill:
    """A live service with its people, the servers it can be restored to, and the story that is told of it."""

    def __init__(self, folder: Path, keys: Keys, story: Log, exits: ExitStack) -> None:
        self.story = story
        self._folder = folder
        self._keys = keys
        self._exits = exits
        self.live = self.database("live")
        self.service = self.service_on("service", self.live)
        self.scene = Scene(self.service, story)

    def database(self, name: str) -> Database:
        """Return a server without data, which is destroyed at the end."""
        database = Database(self._folder, name)
        self._exits.callback(database.destroy)
        return database

    def service_on(self, name: str, database: Database) -> Service:
        service = Service(name, self._folder, self._keys, database)
        self._exits.callback(service.remove)
        return service

    def dumped(self) -> Path:
        """Return a dump of the live database."""
        archive = self.live.home / "backup.dump"
        self.live.run("pg_dump", "--format=custom", f"--file={archive}", DATABASE)
        return archive

    def loaded(self, name: str, archive: Path) -> Database:
        """Return a new server with what a dump holds."""
        database = self.database(name)
        database.start()
        database.create_roles()
        database.run("pg_restore", "--exit-on-error", "--dbname", DATABASE, str(archive))
        return database

    def turn_to(self, database: Database) -> None:
        """Have the service use a server that was loaded."""
        self.service.turn_to(database)
        self.service.manage(*_GRANT)

    def lose_the_database(self) -> None:
        self.story.chapter("The database is lost")
        self.story.restart_clock()
        self.live.crash()
        self.scene.is_lost("gus", "kai")
        self.story.fact("The database server is gone, with everything since the backup. The bucket is as it was")


@contextmanager
def drilling(folder: Path, keys: Keys, story: Log) -> Iterator[Drill]:
    """Run an S3 server and a live service without any data; everything is stopped at the end, and only logs stay."""
    with ExitStack() as exits:
        runtime = Path(exits.enter_context(TemporaryDirectory(prefix="dca-drill-")))
        s3 = SeaweedFS(folder / "s3", runtime, keys.s3, keys.s3_port)
        exits.callback(shutil.rmtree, s3.home, ignore_errors=True)
        exits.callback(s3.stop)
        s3.begin(alone=True)
        s3.wait()
        drill = Drill(folder, keys, story, exits)
        drill.live.start()
        drill.live.create_roles()
        drill.service.manage_all(DATABASE, [("migrate", "--verbosity", "0"), _GRANT])
        drill.service.start_web()
        drill.service.start("workers")
        yield drill


def dump(drill: Drill) -> None:
    """Restore a dump into an empty server."""
    story, scene, service = drill.story, drill.scene, drill.service
    story.chapter("Before the backup")
    before_the_backup(scene)
    archive = drill.dumped()
    story.fact(f"pg_dump has written a backup of {archive.stat().st_size:,} bytes")
    story.chapter("After the backup")
    after_the_backup(scene)
    drill.lose_the_database()
    service.stop("web")
    drill.turn_to(drill.loaded("restored", archive))
    story.took("from the loss until the server is restored", story.elapsed())
    story.fact("The dump is restored into an empty server: roles, pg_restore, grant_roles")
    story.chapter("It notices by itself")
    service.start_web()
    check.is_closed(scene)
    before = check.state_of(service)
    began = time.monotonic()
    service.start("workers")
    check.refuses_commands(scene)
    time.sleep(max(0.0, 15 - (time.monotonic() - began)))
    check.nothing_moves(scene, before, seconds=time.monotonic() - began)
    _replay_by_hand(scene)
    _restore_once_more(drill, archive)


def _restore_once_more(drill: Drill, archive: Path) -> None:
    story, scene, service = drill.story, drill.scene, drill.service
    story.chapter("The same backup once more")
    service.manage("approve_request", scene.requests["dora"].id)
    scene.reaches("dora", "completed")
    story.fact("Dora's deletion is approved, and done. Then this database is lost too")
    for name in ("web", "workers"):
        service.stop(name)
    service.database.crash()
    scene.is_lost()
    drill.turn_to(drill.loaded("again", archive))
    service.start_web()
    service.start("workers")
    check.is_closed(scene)
    check.dry_run_again(scene)
    check.goes_through_again(scene)
    check.is_verified(scene)
    check.all_is_as_promised(scene)
    _clients_go_on(scene)


def copy(drill: Drill) -> None:
    """Start a physical copy in the place of the lost server."""
    story, scene, service = drill.story, drill.scene, drill.service
    story.chapter("Before the backup, two hours ago")
    drill.live.sql(_TWO_HOURS_AGO)
    before_the_backup(scene)
    restored = drill.database("restored")
    drill.live.copy_to(restored)
    story.fact("pg_basebackup has copied the server's files")
    story.chapter("After the backup")
    after_the_backup(scene)
    drill.lose_the_database()
    service.stop("web")
    restored.start()
    restored.sql(_NOW)
    service.turn_to(restored)
    story.took("from the loss until the server is restored", story.elapsed())
    story.fact("The copy is started in its place")
    story.chapter("It notices within a minute")
    service.start_web()
    work_on_unaware(scene)
    before = check.state_of(service)
    began = time.monotonic()
    service.start("workers")
    _is_noticed(scene)
    check.is_closed(scene)
    check.refuses_commands(scene)
    check.nothing_moves(scene, before, seconds=time.monotonic() - began)
    _replay_by_hand(scene)


def replica(drill: Drill) -> None:
    """Promote a replica that has not received the last transactions."""
    story, scene, service = drill.story, drill.scene, drill.service
    standby = drill.database("standby")
    drill.live.copy_to(standby, "--write-recovery-conf")
    standby.start()
    story.chapter("Before the connection to the replica breaks")
    before_the_backup(scene)
    [(position,)] = drill.live.sql("SELECT pg_current_wal_lsn()")
    caught_up = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    wait_until(lambda: standby.sql(caught_up, [position]) == [(True,)], "the replica has everything so far")
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
    standby.sql("SELECT pg_reload_conf()")
    wait_until(lambda: not standby.sql("SELECT 1 FROM pg_stat_wal_receiver"), "the replica receives nothing more")
    story.fact("An asynchronous replica has everything so far; then its connection breaks, and nobody notices")
    story.chapter("After that")
    after_the_backup(scene)
    drill.lose_the_database()
    standby.sql("SELECT pg_promote()")
    service.turn_to(standby)
    client = scene.client(FERRIES)
    seconds = wait_until(lambda: client.get("conversations").status == 200, "the web server has reconnected")
    story.took("from the loss until the server is restored", story.elapsed())
    story.fact(f"The replica is promoted, and the web server, which ran on, serves again ({seconds:.0f} s)")
    work_on_unaware(scene)
    story.chapter("It catches up by itself")
    service.start("workers")
    _is_noticed(scene)
    answer = client.get("conversations")
    if answer.status == 503:
        require(answer.body.get("code") == "catching_up", f"It is closed as {answer.body.get('code')}.")
        story.fact("Calls are answered 503 catching_up")
    service.kill("workers")
    story.fact("Meanwhile all workers are killed, and started again")
    service.start("workers")
    _check_the_rest(scene)
    check.lost_exports_are_logged(scene)


def staging(drill: Drill) -> None:
    """Start copies beside the live service, on the same bucket."""
    story, scene, live = drill.story, drill.scene, drill.service
    story.chapter("A live service")
    scene.chatbot(FERRIES)
    scene.person("ada", FERRIES)
    scene.person("ida", FERRIES)
    scene.carry_out("ada", "deletion")
    scene.journalled()
    story.restart_clock()
    archive = drill.dumped()
    physical = drill.database("physical")
    drill.live.copy_to(physical)

    story.chapter("A dump of it, as a staging copy")
    staging = drill.service_on("staging", drill.loaded("loaded", archive))
    staging.start_web()
    copied = scene.copied(staging)
    check.is_closed(copied)
    check.is_served(scene)
    adopted = staging.manage("adopt", "--new-service", "--yes")
    story.fact("`adopt --new-service` gives the copy an identity of its own; it says:")
    story.quote(adopted.out.strip().splitlines())
    _works_apart(copied, scene)
    staging.remove()

    story.chapter("A physical copy, which has the live service's identity and does not know it")
    physical.start()
    twin = drill.service_on("twin", physical)
    twin.start_web()
    twin.start("workers")
    copied = scene.copied(twin)
    copied.file("ida", "export")
    seconds = wait_until(lambda: "ledger_foreign" in live.health(), "the live service names the foreign objects")
    require("restored_database" not in live.health(), "The live service was closed by its copy.")
    check.is_served(scene)
    story.fact(f"What it writes into the live service's ledger is reported there (ledger_foreign, {seconds:.0f} s)")
    twin.manage("adopt", "--new-service", "--yes")
    _works_apart(copied, scene)
    live.database.stop()
    live.database.start()
    live.stop("workers")
    live.start("workers")
    time.sleep(NOTICED_SECONDS)
    check.is_served(scene)
    check.all_is_as_promised(scene)
    story.fact("The live database server is restarted, and what the copy had written still closes nothing")


def _replay_by_hand(scene: Scene) -> None:
    scene.story.chapter("The replay")
    check.dry_run(scene)
    check.replay(scene)
    _check_the_rest(scene)
    check.storage_is_compared(scene)


def _check_the_rest(scene: Scene) -> None:
    scene.story.chapter("Afterwards")
    check.is_open(scene)
    check.is_verified(scene)
    check.all_is_as_promised(scene)
    if ORCHARD in scene.states:
        check.numbers_hit_nobody(scene)
    check.replay_again(scene)
    _clients_go_on(scene)


def _clients_go_on(scene: Scene) -> None:
    scene.story.chapter("Clients do their part")
    check.clients_do_their_part(scene)
    check.early_data_is_known(scene)
    check.is_verified(scene)
    check.all_is_as_promised(scene)


def _is_noticed(scene: Scene) -> None:
    client = scene.client(FERRIES)
    seconds = wait_until(
        lambda: client.get("conversations").status == 503,
        "the workers notice",
        seconds=NOTICED_SECONDS + _STARTING_SECONDS,
    )
    scene.story.took("from the workers' start until it is noticed", seconds)
    scene.story.fact(f"{seconds:.0f} s after the workers' start the service has noticed, and is closed")


def _works_apart(copied: Scene, live: Scene) -> None:
    """Check that an adopted copy works on its own, and the live service goes on."""
    check.is_served(copied)
    if not copied.service.is_started("workers"):
        copied.service.start("workers")
    copied.carry_out("ida", "deletion")
    copied.journalled()
    live.carry_out("ida", "export")
    # As long as a look can take to come round.
    time.sleep(NOTICED_SECONDS + 5)
    check.is_served(copied)
    check.is_served(live)
    folders = check.ledger_folders(live.service)
    ids = [scene.service.sql("SELECT service_id FROM compliance_service")[0][0] for scene in (copied, live)]
    require(ids[0] != ids[1] and {str(each) for each in ids} <= folders, f"The ledger has the folders {folders}.")
    copied.story.fact(
        "The copy erases its own Ida and writes a ledger of its own; a minute later both are open, and the live "
        "service still has its Ida"
    )
