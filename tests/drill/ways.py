"""The drill's ways to lose and restore a database: each sets the scene, restores, and checks what must hold."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from devservers.postgres import DATABASE
from scripts.demo_story import require
from tests.drill import checks as check
from tests.drill.happenings import after_the_backup, before_the_backup, work_on_unaware
from tests.drill.scene import FERRIES, ORCHARD, WORKERS, Log, Scene, told
from tests.faults.catalogue import start_programs
from tests.faults.site import Site
from tests.operated import GRANT, Database, wait_until
from tests.oracle.client_state import Known

# How long workers may take to notice a restore: they check at their start and each minute. Includes the time of a
# start.
NOTICED_SECONDS = 60.0
_STARTING_SECONDS = 30.0


# So that the lost time is longer than that of a failover.
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
    """A live service with its people, and the servers it can be restored to."""

    def __init__(self, service: Site, story: Log, exits: ExitStack) -> None:
        self.service = service
        self.live = service.database
        self.scene = Scene(service, story, Known())
        self._folder = service.folder.parent
        self._exits = exits

    def database(self, name: str) -> Database:
        """Return a server without data, which is destroyed at the end."""
        database = Database(self._folder, name)
        self._exits.callback(database.destroy)
        return database

    def copy(self, name: str, database: Database) -> Site:
        """Return a service on a copy of the live database. None of its programs is started."""
        copy_of = (self.service, database)
        return self._exits.enter_context(Site(self._folder / name, clusters=1, copy_of=copy_of))

    def dumped(self) -> Path:
        archive = self.live.home / "backup.dump"
        self.live.run("pg_dump", "--format=custom", f"--file={archive}", DATABASE)
        return archive

    def loaded(self, name: str, archive: Path) -> Database:
        database = self.database(name)
        database.start()
        database.create_roles()
        database.run("pg_restore", "--exit-on-error", "--dbname", DATABASE, str(archive))
        return database

    def turn_to(self, database: Database) -> None:
        self.service.turn_to(database)
        self.service.manage(*GRANT)

    def lose_the_database(self) -> None:
        """Crash the server, with everything since the backup. The bucket stays as it is."""
        self.scene.story.chapter("The database is lost, and restored")
        self.scene.story.restart_clock()
        self.live.crash()
        self.scene.is_lost("gus", "kai")


@contextmanager
def drilling(folder: Path, story: Log) -> Iterator[Drill]:
    """Run a live service without any data; everything is stopped at the end, and only logs stay of the copies."""
    with Site(folder / "live", clusters=1) as service, ExitStack() as exits:
        yield Drill(service, story, exits)
        for name in filter(service.is_started, service.programs):
            service.kill(name)


def dump(drill: Drill) -> None:
    """Restore a dump into an empty server."""
    scene, service = drill.scene, drill.service
    before_the_backup(scene)
    archive = drill.dumped()
    after_the_backup(scene)
    drill.lose_the_database()
    service.stop("web")
    drill.turn_to(drill.loaded("restored", archive))
    _is_restored(scene)
    service.start_web()
    check.is_closed(scene)
    before = check.state_of(service)
    began = time.monotonic()
    service.start(WORKERS)
    check.refuses_commands(scene)
    time.sleep(max(0.0, 15 - (time.monotonic() - began)))
    check.nothing_moves(scene, before, seconds=time.monotonic() - began)
    _replay_by_hand(scene)

    scene.story.chapter(
        "Dora's deletion is approved, and done. Then this database is lost too: the same backup again"
    )
    service.manage("approve_request", scene.requests["dora"].id)
    scene.reaches("dora", "completed")
    for name in service.programs:
        service.stop(name)
    service.database.crash()
    scene.is_lost()
    drill.turn_to(drill.loaded("again", archive))
    start_programs(service)
    check.is_closed(scene)
    check.dry_run_again(scene)
    check.replay(scene, kills=0)
    check.serves(scene)
    scene.reaches("dora", "jon", "kai", "olga", "otto", "pia", "rosa", "sven", "completed")
    check.all_is_as_promised(scene)
    _clients_go_on(scene)


def copy(drill: Drill) -> None:
    """Start a physical copy, two hours old, in the place of the lost server."""
    scene, service = drill.scene, drill.service
    drill.live.sql(_TWO_HOURS_AGO)
    before_the_backup(scene)
    restored = drill.database("restored")
    drill.live.copy_to(restored)
    after_the_backup(scene)
    drill.lose_the_database()
    service.stop("web")
    restored.start()
    restored.sql(_NOW)
    service.turn_to(restored)
    _is_restored(scene)
    service.start_web()
    work_on_unaware(scene)
    before = check.state_of(service)
    began = time.monotonic()
    service.start(WORKERS)
    _is_noticed(scene)
    check.is_closed(scene)
    check.refuses_commands(scene)
    check.nothing_moves(scene, before, seconds=time.monotonic() - began)
    _replay_by_hand(scene)


def replica(drill: Drill) -> None:
    """Promote an asynchronous replica that has not received the last transactions, since its connection broke."""
    scene, service = drill.scene, drill.service
    standby = drill.database("standby")
    drill.live.copy_to(standby, "--write-recovery-conf")
    standby.start()
    before_the_backup(scene)
    [(position,)] = drill.live.sql("SELECT pg_current_wal_lsn()")
    caught_up = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    wait_until(lambda: standby.sql(caught_up, [position]) == [(True,)], "the replica has everything so far")
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
    standby.sql("SELECT pg_reload_conf()")
    wait_until(lambda: not standby.sql("SELECT 1 FROM pg_stat_wal_receiver"), "the replica receives nothing more")
    after_the_backup(scene)
    drill.lose_the_database()
    standby.sql("SELECT pg_promote()")
    service.turn_to(standby)
    check.serves(scene)  # the web server, which ran on, has reconnected
    _is_restored(scene)
    work_on_unaware(scene)
    service.start(WORKERS)
    _is_noticed(scene)
    answer = scene.client(FERRIES).get("conversations")
    if answer.status == 503:
        require(answer.body.get("code") == "catching_up", f"It is closed as {answer.body.get('code')}.")
    service.kill(WORKERS)
    service.start(WORKERS)
    _check_the_rest(scene)
    check.lost_exports_are_logged(scene)


def staging(drill: Drill) -> None:
    """Start copies beside the live service, on the same bucket."""
    scene, live = drill.scene, drill.service
    scene.chatbot(FERRIES)
    scene.person("ada", "ida", slug=FERRIES)
    scene.carry_out("ada", "deletion")
    scene.service.wait_for_journal()
    archive = drill.dumped()
    physical = drill.database("physical")
    drill.live.copy_to(physical)

    scene.story.chapter("A dump of it, as a staging copy, which gets an identity of its own (`adopt --new-service`)")
    staging = drill.copy("staging", drill.loaded("loaded", archive))
    staging.start_web()
    copied = scene.copied(staging)
    check.is_closed(copied)
    check.is_served(scene)
    staging.manage("adopt", "--new-service", "--yes")
    staging.start(WORKERS)
    _work_apart(copied, scene)
    for name in staging.programs:
        staging.stop(name)

    scene.story.chapter("A physical copy, which has the live service's identity and does not know it")
    physical.start()
    twin = drill.copy("twin", physical)
    start_programs(twin)
    copied = scene.copied(twin)
    _is_told_apart(copied, scene)
    twin.manage("adopt", "--new-service", "--yes")
    _work_apart(copied, scene)
    live.database.stop()
    live.database.start()
    live.stop(WORKERS)
    live.start(WORKERS)
    time.sleep(NOTICED_SECONDS)
    check.is_served(scene)
    check.all_is_as_promised(scene)


def _replay_by_hand(scene: Scene) -> None:
    check.dry_run(scene)
    check.replay(scene, kills=3)
    _check_the_rest(scene)
    scene.service.manage("reconcile_storage", "--json", ends=(0, 3))


def _check_the_rest(scene: Scene) -> None:
    check.serves(scene)
    check.requests_are_as_promised(scene)
    check.all_is_as_promised(scene)
    if ORCHARD in scene.states:
        check.numbers_hit_nobody(scene)
    check.replay_again(scene)
    _clients_go_on(scene)


def _clients_go_on(scene: Scene) -> None:
    check.clients_do_their_part(scene)
    check.early_data_is_known(scene)
    check.all_is_as_promised(scene)


@told
def _is_restored(scene: Scene) -> str:
    """The server is restored."""
    return f"{scene.story.elapsed():.1f} s after the loss"


@told
def _is_noticed(scene: Scene) -> str:
    """The workers have noticed, and the service is closed."""
    client, patience = scene.client(FERRIES), NOTICED_SECONDS + _STARTING_SECONDS
    closed = wait_until(lambda: client.get("conversations").status == 503, "the workers notice", seconds=patience)
    return f"{closed:.1f} s after their start"


@told
def _is_told_apart(copied: Scene, live: Scene) -> None:
    """What the copy writes into the live service's ledger is reported there (ledger_foreign), and closes nothing."""
    copied.file("ida", "export")
    wait_until(lambda: "ledger_foreign" in live.service.health(), "the live service names the foreign objects")
    require("restored_database" not in live.service.health(), "The live service was closed by its copy.")
    check.is_served(live)


@told
def _work_apart(copied: Scene, live: Scene) -> None:
    """The adopted copy erases its own Ida and writes a ledger of its own; a minute later both are open, and the live
    service still has its Ida."""
    check.is_served(copied)
    copied.carry_out("ida", "deletion")
    copied.service.wait_for_journal()
    live.carry_out("ida", "export")
    # The longest time until the next check.
    time.sleep(NOTICED_SECONDS + 5)
    check.is_served(copied)
    check.is_served(live)
    folders = check.ledger_folders(live.service)
    ids = [scene.service.sql("SELECT service_id FROM compliance_service")[0][0] for scene in (copied, live)]
    require(ids[0] != ids[1] and {str(each) for each in ids} <= folders, f"The ledger has the folders {folders}.")
