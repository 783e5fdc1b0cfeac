"""Files of a deployment agree with the project and with each other: containers, settings, Prometheus and Grafana."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from common.storage import ObjectStorage
from config import web_server
from tests.config.test_settings import KEY, manage
from tests.config.test_systemd import unit
from tests.packages import SERVICE

ROOT = Path(settings.BASE_DIR)
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
BOARD = ROOT / "deploy/grafana/board.json"
RUNBOOKS = ROOT / "docs/operators/runbooks"
METRICS = ROOT / "docs/reference/metrics.md"

_METRIC = re.compile(r"\bdca_\w+")


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def queries(of: Any) -> Iterator[str]:
    """Return each expression of a board, at any depth."""
    if isinstance(of, dict):
        yield from (value for name, value in of.items() if name == "expr")
    for one in of.values() if isinstance(of, dict) else of if isinstance(of, list) else ():
        yield from queries(one)


@pytest.fixture
def metrics(db: None, settings: Any) -> dict[str, set[str]]:
    """The names and labels in `/metrics`."""
    settings.METRICS_TOKEN = "a-token-of-the-tests"
    text = Client(headers={"authorization": "Bearer a-token-of-the-tests"}).get("/metrics").content.decode()
    return {family.name: set(family.samples[0].labels) for family in text_string_to_metric_families(text)}


def test_an_alert_has_a_cause_a_severity_and_a_runbook() -> None:
    pages = {path: path.read_text() for path in RUNBOOKS.glob("*.md")}
    where = {title: path for path, text in pages.items() for title in re.findall(r"^## (\w+)$", text, re.MULTILINE)}
    assert where.keys() == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert re.fullmatch(r"\d+[mh]", alert["for"])
        assert set(alert["annotations"]) == {"summary", "runbook_url"}
        page = where[alert["alert"]].relative_to(ROOT)
        assert alert["annotations"]["runbook_url"] == f"{page}#{alert['alert'].lower()}"
    listed = re.findall(r"^- \[(\w+)\]", (RUNBOOKS / "index.md").read_text(), re.MULTILINE)
    assert listed == [alert["alert"] for alert in alerts()]


def test_a_runbook_has_all_its_sections() -> None:
    for section in (part for path in RUNBOOKS.glob("*.md") for part in path.read_text().split("\n## ")[1:]):
        heads = re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE)
        assert heads == ["Means.", "See.", "Do.", "Over."], section.splitlines()[0]


def test_rules_and_board_use_existing_metrics(metrics: dict[str, set[str]]) -> None:
    asked = [alert["expr"] for alert in alerts()] + list(queries(json.loads(BOARD.read_text())))

    assert len(asked) > 30
    for query in asked:
        names = _METRIC.findall(query)
        assert names, query
        assert set(names) <= metrics.keys(), query
        labels = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
        labels |= set(re.findall(r"(\w+)=", query))
        assert labels <= set.union(*(metrics[name] for name in names)), query


def test_the_board_shows_each_metric(metrics: dict[str, set[str]]) -> None:
    shown = {name for query in queries(json.loads(BOARD.read_text())) for name in _METRIC.findall(query)}

    assert shown == metrics.keys()


def test_grafana_can_read_the_board() -> None:
    board = json.loads(BOARD.read_text())
    panels = board["panels"]

    assert {"uid", "title", "schemaVersion", "templating", "time"} <= board.keys()
    assert len({panel["id"] for panel in panels}) == len(panels)
    places: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & places, f"{panel['title']} lies on another one"
        places |= cells
        assert all(one["datasource"]["uid"] == "${datasource}" for one in panel.get("targets", ()))


def test_the_reference_explains_each_metric(metrics: dict[str, set[str]]) -> None:
    rows = re.findall(r"^\| `(dca_\w+)` \| ([^|]*)\|", METRICS.read_text(), re.MULTILINE)

    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == metrics


@pytest.mark.long(reason="promtool takes ten seconds")
@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here")
def test_the_alert_rules_fire_as_described() -> None:
    argv = ["promtool", "test", "rules", "alerts_test.yml"]

    done = subprocess.run(argv, check=False, cwd=ALERTS.parent, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


CONTAINERFILE = (ROOT / "Containerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
EXTERNAL: dict[str, Any] = yaml.safe_load((ROOT / "compose.external.yaml").read_text())["services"]
EACH = [*SERVICES.items(), *EXTERNAL.items()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXAMPLE = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
OURS = ("migrate", "web", "worker")


def instructions(name: str) -> list[str]:
    """Return the arguments of each instruction of this name, with continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", CONTAINERFILE)
    return re.findall(rf"^\s*{name}\s+(.+)$", joined, re.MULTILINE)


def files(given: dict[str, Any]) -> list[str]:
    """Return the names of a service's files of settings, of which the last one wins."""
    return [each if isinstance(each, str) else each["path"] for each in given.get("env_file", [])]


def environment(service: str, given: dict[str, Any] | None = None) -> dict[str, str]:
    """Return the settings of a service from .env.example, with invented values for empty ones."""
    given = given or SERVICES[service]
    filler = "made-up-for-a-test-of-fifty-characters-or-more-0123456789"
    values = {name: value or f"{name.lower()}-{filler}" for name, value in EXAMPLE.items()}
    values |= {"ENCRYPTION_KEYS": f"k1:{KEY}", "DIGEST_KEY": f"k1:{KEY}"}

    def filled(match: re.Match[str]) -> str:
        return values.get(match["name"]) or match["default"] or ""

    pattern = re.compile(r"\$\{(?P<name>[A-Z0-9_]+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}")
    texts = [(ROOT / name).read_text() for name in files(given) if name.startswith("deploy/")]
    said = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", "\n".join(texts), re.MULTILINE)) | given.get("environment", {})
    return {name: pattern.sub(filled, value) for name, value in said.items()}


def seconds(duration: str) -> int:
    """Return the seconds of `40s`."""
    assert duration.endswith("s")
    return int(duration.removesuffix("s"))


def test_the_image_has_the_python_version_of_the_requirements() -> None:
    [version] = re.findall(r"^ARG PYTHON_VERSION=(.+)$", CONTAINERFILE, re.MULTILINE)

    resolved = set(re.findall(r"--python-version (\S+)", (ROOT / "Makefile").read_text()))
    assert {version} == resolved
    assert PROJECT["project"]["requires-python"] == f">={version}"
    assert "python:${PYTHON_VERSION}-slim" in instructions("FROM")[0]


def test_the_image_contains_exactly_the_packages_of_production() -> None:
    copied = {
        word.rstrip("/")
        for copy in instructions("COPY")
        if not copy.startswith("--from")
        for word in copy.split()[:-1]
    }

    assert copied == {
        *(SERVICE - {"devdata"}),
        *("templates", "static", "manage.py", "gunicorn.conf.py", "pyproject.toml", "requirements.txt", "LICENSE"),
        *("docs/clients", "docs/images", "docs/reference", "docs/staff"),  # pages of the service
    }
    allowed = re.findall(r"^!(.+)$", (ROOT / ".containerignore").read_text(), re.MULTILINE)
    assert set(allowed) == copied
    assert all((ROOT / path).exists() for path in copied)


def test_the_image_installs_pinned_requirements_with_their_hashes_and_none_of_development() -> None:
    [install] = [line for line in instructions("RUN") if "pip install" in line]

    assert "--require-hashes -r requirements.txt" in install
    assert "requirements-dev" not in CONTAINERFILE
    assert any("manage.py collectstatic" in line for line in instructions("RUN"))


def test_the_image_runs_gunicorn_unprivileged_and_receives_its_signals() -> None:
    final = CONTAINERFILE.rsplit("\nFROM ", 1)[1]

    assert re.findall(r"^USER (.+)$", final, re.MULTILINE) == ["10001:10001"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(instructions("CMD")[-1]) == ["gunicorn", "--config", "gunicorn.conf.py"]
    assert (ROOT / "gunicorn.conf.py").exists()
    assert not instructions("ENTRYPOINT")
    assert {"title", "description", "version", "licenses"} == set(re.findall(r"opencontainers\.image\.(\w+)=", final))


def test_health_checks_ask_the_port_on_which_the_web_server_listens() -> None:
    [port] = instructions("EXPOSE")
    probe = f"http://127.0.0.1:{port}/healthz"

    assert instructions("ENV")[-1] == f"WEB_BIND=0.0.0.0:{port}"
    assert probe in instructions("HEALTHCHECK")[0]
    assert probe in SERVICES["web"]["healthcheck"]["test"][-1]
    assert EXTERNAL["web"]["ports"][0].endswith(f":{port}")
    assert SERVICES["proxy"]["environment"]["WEB"] == f"web:{port}"


@pytest.mark.parametrize(("service", "given"), EACH)
def test_a_service_can_write_only_its_volumes_and_gains_no_rights(service: str, given: dict[str, Any]) -> None:
    assert given["read_only"] is True
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    is_proxy = service == "proxy"
    assert given.get("cap_add", []) == (["NET_BIND_SERVICE"] if is_proxy else [])
    assert "privileged" not in given
    assert given["user"] == {"db": "postgres", "s3": "0:0", "proxy": "0:0"}.get(service, "10001:10001")
    assert is_proxy or all(port.startswith("127.0.0.1:") for port in given.get("ports", []))
    # It takes neither all memory nor all processes.
    assert re.fullmatch(r"[1-4]g", given["mem_limit"])
    assert 100 <= given["pids_limit"] <= 1_000


def test_each_service_has_a_health_check_and_waits_for_what_it_needs() -> None:
    for name, service in SERVICES.items():
        ends = name in {"bucket", "migrate"}
        assert service["healthcheck"] == {"disable": True} if ends else service["healthcheck"]["test"]
    healthy, done = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}
    assert SERVICES["migrate"]["depends_on"] == {"db": healthy}
    assert SERVICES["bucket"]["depends_on"] == {"s3": healthy}
    for name in ("web", "worker"):
        assert SERVICES[name]["depends_on"] == {"db": healthy, "s3": healthy, "bucket": done, "migrate": done}


def test_a_service_gets_only_known_settings_and_all_required_ones() -> None:
    text = (ROOT / "config/settings.py").read_text()
    known = set(re.findall(r"env\.[a-z_]+\(\s*\"([A-Z0-9_]+)\"", text))
    missing = manage({"SECRET_KEY": "x" * 50}, "check")
    required = set(re.findall(r"^  ([A-Z0-9_]+):", missing.stderr, re.MULTILINE)) | {"SECRET_KEY"}

    assert {"DIGEST_KEY", "S3_BUCKET", "BACKUP_HORIZON_DAYS"} < required
    for service in OURS:
        assert required | {"DATABASE_URL"} <= environment(service).keys() <= known | {"PGUSER", "PGPASSWORD"}


def test_a_file_settings_env_overrides_each_setting() -> None:
    """What `environment` says would win over it."""
    for service in ("bucket", *OURS):
        assert SERVICES[service].get("environment", {}).keys() <= {"PGUSER", "PGPASSWORD"}
        assert files(SERVICES[service])[-1] == "settings.env"


def test_with_servers_of_ones_own_each_process_has_a_file_for_its_database_address() -> None:
    for service, given in EXTERNAL.items():
        assert files(given) == ["deploy/compose/defaults.env", "settings.env", f"{service}.env"]
        assert "environment" not in given
        ours = {"env_file", "environment", "networks", "depends_on", "ports"}
        assert {name: given[name] for name in given.keys() - ours} == {
            name: SERVICES[service][name] for name in SERVICES[service].keys() - ours
        }
    assert EXTERNAL.keys() == set(OURS)
    assert not environment("web", EXTERNAL["web"]).keys() & {"DATABASE_URL", "S3_ENDPOINT_URL", "S3_BUCKET"}


def test_the_example_names_each_variable_of_compose_once() -> None:
    texts = [path.read_text() for path in (ROOT / "compose.yaml", *(ROOT / "deploy/compose").glob("*.env"))]
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", "".join(texts)))

    assert sorted(used) == sorted(EXAMPLE)


@pytest.mark.long(reason="a process for each service")
@pytest.mark.parametrize("service", OURS)
def test_a_service_passes_the_deployment_checks_with_the_example_filled_in(service: str) -> None:
    done = manage(environment(service), "check", "--deploy", "--fail-level", "WARNING")

    assert done.returncode == 0, done.stderr


def test_only_the_proxy_is_reached_from_outside_and_believed_about_callers() -> None:
    assert [name for name, given in SERVICES.items() if "ports" in given] == ["proxy"]
    assert [name for name, given in SERVICES.items() if "front" in given["networks"]] == ["proxy", "web"]
    [network] = COMPOSE["networks"]["front"]["ipam"]["config"]
    assert network["subnet"].endswith(f":-{environment('web')['PROXY_NETWORKS']}}}")
    assert environment("web")["BEHIND_PROXY"] == "true"
    used = re.findall(r"\{\$([A-Z_]+)\}", (ROOT / "deploy/proxy/Caddyfile").read_text())
    assert set(used) <= SERVICES["proxy"]["environment"].keys()


def test_services_run_existing_commands() -> None:
    words = " ".join(word for service in OURS for word in SERVICES[service].get("command", []))
    words += " " + " ".join(SERVICES["worker"]["healthcheck"]["test"])

    named = set(re.findall(r"manage\.py (\w+)", words))
    assert named == {"migrate", "grant_roles", "qcluster", "health"}
    assert named <= get_commands().keys()


def test_each_process_connects_as_a_role_of_its_own_that_the_database_has() -> None:
    roles = re.findall(r"^CREATE ROLE (\w+)", (ROOT / "deploy/compose/create_roles.sh").read_text(), re.MULTILINE)

    assert [SERVICES[service]["environment"]["PGUSER"] for service in OURS] == roles
    assert "--web compliance_web --worker compliance_worker" in SERVICES["migrate"]["command"][-1]
    secrets = {"POSTGRES_PASSWORD", "OWNER_PASSWORD", "WEB_PASSWORD", "WORKER_PASSWORD"}
    assert secrets & environment("web").keys() == set()


def test_services_have_enough_time_to_stop() -> None:
    web, worker = (int(unit(name)["Service"]["TimeoutStopSec"]) for name in ("web", "worker"))

    assert seconds(SERVICES["web"]["stop_grace_period"]) == web > web_server.graceful_timeout
    assert seconds(SERVICES["worker"]["stop_grace_period"]) == worker


def test_images_have_the_versions_that_tests_use() -> None:
    [seaweedfs] = [each for each in PROJECT["project"]["optional-dependencies"]["dev"] if "seaweedfs" in each]

    assert SERVICES["s3"]["image"].endswith(f":{seaweedfs.partition('==')[2]}")
    assert re.search(r"postgres:18-\w+$", SERVICES["db"]["image"])


def test_our_images_have_no_version_that_a_release_would_have_to_raise() -> None:
    ours = {given["image"] for services in (SERVICES, EXTERNAL) for name, given in services.items() if name in OURS}

    assert ours == {"data-compliance-api"}
    assert "data-compliance-api:" not in CONTAINERFILE
    assert re.findall(r"^ARG VERSION=(.+)$", CONTAINERFILE, re.MULTILINE) == ["unknown"]


def test_the_database_logs_no_rows() -> None:
    advice = re.findall(r"^ +(log_\w+) = (\w+)$", (ROOT / "docs/operators/servers.md").read_text(), re.MULTILINE)

    assert SERVICES["db"]["command"] == ["postgres", *(f"-c{name}={value}" for name, value in advice)]
    assert advice


def test_the_inner_ports_of_the_storage_are_not_reachable() -> None:
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-disableHttp=true"} <= set(SERVICES["s3"]["command"])


@pytest.mark.long(reason="starts programs")
def test_the_bucket_is_created_once_and_may_be_there_already(storage: ObjectStorage) -> None:
    given = environment("bucket") | {
        "PATH": os.environ["PATH"],
        "S3_ENDPOINT_URL": settings.S3_ENDPOINT_URL or "",
        "S3_BUCKET": f"compose-{uuid4()}",
        "S3_ACCESS_KEY_ID": settings.S3_ACCESS_KEY_ID,
        "S3_SECRET_ACCESS_KEY": settings.S3_SECRET_ACCESS_KEY,
    }
    client = storage.client
    try:
        for _ in range(2):
            subprocess.run([sys.executable, ROOT / "deploy/compose/create_bucket.py"], check=True, env=given)
        assert client.list_objects_v2(Bucket=given["S3_BUCKET"])["KeyCount"] == 0
    finally:
        client.delete_bucket(Bucket=given["S3_BUCKET"])


def test_the_storage_keeps_no_log() -> None:
    """Its log names keys of objects, and a key can hold a chatter's UCI value."""
    assert SERVICES["s3"]["logging"] == {"driver": "none"}
