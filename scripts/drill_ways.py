"""The drill's ways to lose and restore a database: each sets the scene, restores, and checks what must hold."""

import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from devservers.postgres import DATABASE
from scripts import drill_checks as check
from scripts.demo_story import require
from scripts.drill_numbers import add_with_the_same_numbers, have_numbers_repeated
from scripts.drill_scene import BAKERY, FERRIES, ORCHARD, Scene, after_the_backup, before_the_backup
from scripts.drill_site import WEB, WORKER, Database, Keys, Log, Service, wait_until

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

    def __init__(self, folder: Path, keys: Keys, story: Log) -> None:
        self.story = story
        self._folder = folder
        self._keys = keys
        self._open = ExitStack()
        self.live = self.database("live")
        self.service = self.service_on("service", self.live)
        self.scene = Scene(self.service, story)

    def begin(self) -> None:
        """Start the live service, without any data."""
        self.live.start()
        self.live.create_roles()
        self.service.manage("migrate")
        self.service.manage("grant_roles", "--web", WEB, "--worker", WORKER)
        self.service.start_web()
        self.service.start_workers()

    def database(self, name: str) -> Database:
        """Return a server without data, which is destroyed at the end."""
        database = Database(self._folder, name)
        self._open.callback(database.destroy)
        return database

    def service_on(self, name: str, database: Database) -> Service:
        service = Service(name, self._folder, self._keys, database)
        self._open.callback(service.remove)
        return service

    def close(self) -> None:
        self._open.close()

    def lose_the_database(self) -> None:
        self.story.chapter("The database is lost")
        self.story.restart_clock()
        self.live.crash()
        self.story.fact("The database server is gone, with everything since the backup. The bucket is as it was")


def dump(drill: Drill) -> None:
    """Restore a dump into an empty server."""
    story, scene, service = drill.story, drill.scene, drill.service
    story.chapter("Before the backup")
    before_the_backup(scene)
    archive = drill.live.home / "backup.dump"
    drill.live.run("pg_dump", "--format=custom", f"--file={archive}", DATABASE)
    story.fact(f"pg_dump has written a backup of {archive.stat().st_size:,} bytes")
    story.chapter("After the backup")
    after_the_backup(scene)
    drill.lose_the_database()
    service.stop("web")
    restored = drill.database("restored")
    restored.start()
    restored.create_roles()
    restored.run("pg_restore", "--exit-on-error", "--dbname", DATABASE, str(archive))
    add_with_the_same_numbers(scene, restored)
    service.turn_to(restored)
    service.manage("grant_roles", "--web", WEB, "--worker", WORKER)
    story.took("from the loss until the server is restored", story.elapsed())
    story.fact("The dump is restored into an empty server: roles, pg_restore, grant_roles")
    story.fact(
        f"Somebody adds the chatbot {ORCHARD} by SQL: it gets the number of {BAKERY}, and stores a conversation of a "
        "person with the same value as Mia's"
    )
    story.chapter("It notices by itself")
    service.start_web()
    check.is_closed(scene)
    before = check.state_of(service)
    began = time.monotonic()
    service.start_workers()
    check.refuses_commands(scene)
    time.sleep(max(0.0, 15 - (time.monotonic() - began)))
    check.nothing_moves(scene, before, seconds=time.monotonic() - began)
    _replay_by_hand(drill)
    _restore_once_more(drill, archive)


def _restore_once_more(drill: Drill, archive: Path) -> None:
    story, scene, service = drill.story, drill.scene, drill.service
    story.chapter("The same backup once more")
    service.manage("approve_request", scene.requests["dora"])
    scene.reaches("dora", "completed")
    story.fact("Dora's deletion is approved, and done. Then this database is lost too")
    service.stop()
    service.database.crash()
    again = drill.database("again")
    again.start()
    again.create_roles()
    again.run("pg_restore", "--exit-on-error", "--dbname", DATABASE, str(archive))
    service.turn_to(again)
    service.manage("grant_roles", "--web", WEB, "--worker", WORKER)
    service.start_web()
    service.start_workers()
    check.is_closed(scene)
    check.dry_run_again(scene)
    check.goes_through_again(scene)
    check.is_verified(scene)
    check.nothing_is_left(scene, also_erased={"dora", "kai"}, lost={"nils"})
    _clients_go_on(drill, also_erased={"dora", "kai"}, lost={"nils"})


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
    _work_on_unaware(scene)
    before = check.state_of(service)
    began = time.monotonic()
    service.start_workers()
    _is_noticed(scene, 503)
    check.is_closed(scene)
    check.refuses_commands(scene)
    check.nothing_moves(scene, before, seconds=time.monotonic() - began)
    _replay_by_hand(drill)


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
    client = scene.clients[FERRIES]
    seconds = wait_until(lambda: client.get("conversations").status == 200, "the web server has reconnected")
    story.took("from the loss until the server is restored", story.elapsed())
    story.fact(f"The replica is promoted, and the web server, which ran on, serves again ({seconds:.0f} s)")
    _work_on_unaware(scene)
    story.chapter("It catches up by itself")
    service.start_workers()
    _is_noticed(scene, 503)
    answer = client.get("conversations")
    if answer.status == 503:
        require(answer.body.get("code") == "catching_up", f"It is closed as {answer.body.get('code')}.")
        story.fact("Calls are answered 503 catching_up")
    service.kill("workers")
    story.fact("Meanwhile all workers are killed, and started again")
    service.start_workers()
    _check_the_rest(drill)
    check.lost_exports_are_logged(scene)


def staging(drill: Drill) -> None:
    """Start copies beside the live service, on the same bucket."""
    story, scene, live = drill.story, drill.scene, drill.service
    story.chapter("A live service")
    scene.chatbot(FERRIES)
    scene.person("ada", FERRIES)
    scene.person("ida", FERRIES)
    scene.carry_out("ada", "data-deletion")
    scene.journalled()
    story.restart_clock()
    archive = drill.live.home / "backup.dump"
    drill.live.run("pg_dump", "--format=custom", f"--file={archive}", DATABASE)
    physical = drill.database("physical")
    drill.live.copy_to(physical)

    story.chapter("A dump of it, as a staging copy")
    server = drill.database("loaded")
    server.start()
    server.create_roles()
    server.run("pg_restore", "--exit-on-error", "--dbname", DATABASE, str(archive))
    staging = drill.service_on("staging", server)
    staging.start_web()
    copied = Scene(staging, story, people=scene.people, tokens=scene.tokens)
    copied.use_tokens()
    check.is_closed(copied)
    check.is_served(scene)
    adopted = staging.manage("adopt", "--new-service", "--yes")
    story.fact("`adopt --new-service` gives the copy an identity of its own; it says:")
    story.quote(adopted.out.strip().splitlines())
    _works_apart(copied, scene)
    staging.stop()

    story.chapter("A physical copy, which has the live service's identity and does not know it")
    physical.start()
    twin = drill.service_on("twin", physical)
    twin.start_web()
    twin.start_workers()
    copied = Scene(twin, story, people=scene.people, tokens=scene.tokens)
    copied.use_tokens()
    copied.file("ida", "data-export")
    seconds = wait_until(lambda: "ledger_foreign" in live.health(), "the live service names the foreign objects")
    require("restored_database" not in live.health(), "The live service was closed by its copy.")
    check.is_served(scene)
    story.fact(f"What it writes into the live service's ledger is reported there (ledger_foreign, {seconds:.0f} s)")
    twin.manage("adopt", "--new-service", "--yes")
    _works_apart(copied, scene)
    live.database.stop()
    live.database.start()
    live.stop("workers")
    live.start_workers()
    time.sleep(NOTICED_SECONDS)
    check.is_served(scene)
    story.fact("The live database server is restarted, and what the copy had written still closes nothing")


def _replay_by_hand(drill: Drill) -> None:
    drill.story.chapter("The replay")
    check.dry_run(drill.scene)
    check.replay(drill.scene)
    _check_the_rest(drill)
    check.storage_is_compared(drill.scene)


def _check_the_rest(drill: Drill) -> None:
    drill.story.chapter("Afterwards")
    check.is_open(drill.scene)
    check.is_verified(drill.scene)
    check.nothing_is_left(drill.scene)
    check.numbers_hit_nobody(drill.scene)
    check.replay_again(drill.scene)
    _clients_go_on(drill, also_erased={"kai"})


def _clients_go_on(drill: Drill, *, also_erased: Collection[str], lost: Collection[str] = ()) -> None:
    drill.story.chapter("Clients do their part")
    check.clients_do_their_part(drill.scene)
    check.late_data_is_refused(drill.scene)
    check.is_verified(drill.scene)
    check.nothing_is_left(drill.scene, also_erased=also_erased, lost=lost, is_sent_again=True)


def _is_noticed(scene: Scene, status: int) -> None:
    client = scene.clients[FERRIES]
    seconds = wait_until(
        lambda: client.get("conversations").status == status,
        "the workers notice",
        seconds=NOTICED_SECONDS + _STARTING_SECONDS,
    )
    scene.story.took("from the workers' start until it is noticed", seconds)
    scene.story.fact(f"{seconds:.0f} s after the workers' start the service has noticed, and is closed")


def _work_on_unaware(scene: Scene) -> None:
    """Create a chatbot before the restore is noticed: it gets the number of one that was lost."""
    require(scene.clients[FERRIES].get("conversations").status == 200, "The web server does not serve yet.")
    have_numbers_repeated(scene, scene.service.database)
    scene.chatbot(ORCHARD)
    scene.person("nils", ORCHARD, uci=scene.people["mia"].uci, again="unchanged")
    scene.story.fact(
        f"Nobody has noticed yet: somebody creates the chatbot {ORCHARD}, which gets the number of {BAKERY}, and "
        "stores a conversation of a person with the same value as Mia's"
    )


def _works_apart(copied: Scene, live: Scene) -> None:
    """Check that an adopted copy works on its own, and the live service goes on."""
    check.is_served(copied)
    if not copied.service.is_working():
        copied.service.start_workers()
    copied.carry_out("ida", "data-deletion")
    copied.journalled()
    live.carry_out("ida", "data-export")
    # As long as a look can take to come round.
    time.sleep(NOTICED_SECONDS + 5)
    check.is_served(copied)
    check.is_served(live)
    folders = check.ledger_folders()
    ids = [scene.service.database.sql("SELECT service_id FROM compliance_service")[0][0] for scene in (copied, live)]
    require(ids[0] != ids[1] and {str(each) for each in ids} <= folders, f"The ledger has the folders {folders}.")
    copied.story.fact(
        "The copy erases its own Ida and writes a ledger of its own; a minute later both are open, and the live "
        "service still has its Ida"
    )
