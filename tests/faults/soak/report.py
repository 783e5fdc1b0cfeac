"""What a run was, and what it found: for people, and as one JSON document."""

import statistics
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.faults.soak import watching
from tests.faults.soak.soak import Soak


def document(soak: Soak) -> dict[str, Any]:
    filed = [one for one in soak.model.filed if one.id]
    stored = [conversation for conversation in soak.model.conversations if conversation.number is not None]
    return {
        "seed": soak.plan.seed,
        "seconds": soak.plan.seconds,
        "calls": dict(soak.traffic.calls.most_common()),
        "answers": dict(soak.traffic.answers.most_common()),
        "requests": {
            f"{kind} {status}": number
            for (kind, status), number in sorted(Counter((one.kind, one.status) for one in filed).items())
        },
        "conversations": len(stored),
        "messages": sum(len(conversation.texts) for conversation in stored),
        "files": sum(len(conversation.files) for conversation in stored),
        "receivers": dict(soak.receivers.counts),
        "retried": dict(soak.operator.retried),
        "met": {name: number for name, number in sorted(soak.met.items()) if number},
        "not met": soak.unmet,
        "faults": {
            name: {
                "times": soak.driver.caused[name],
                "median": round(statistics.median(seconds), 2) if seconds else None,
                "worst": round(max(seconds), 2) if seconds else None,
            }
            for name, seconds in sorted((name, soak.driver.recoveries[name]) for name in soak.driver.caused)
        },
        "outages": [
            {"fault": one.name, "since": one.since.isoformat(), "until": one.until.isoformat()}
            for one in soak.violations.outages.over
        ],
        "prevented": soak.driver.prevented,
        "memory": [
            {"kind": one.kind, "seconds": round(one.seconds), "first": one.first, "last": one.last, "peak": one.peak}
            for one in soak.watcher.chosen()
        ],
        "tables": [table._asdict() for table in watching.tables_of(soak.site)[:12]],
        "queue": watching.queue_of(soak.site),
        "violations": [
            {"kind": one.kind, "told": one.told, "at": round(one.seconds), "during": one.during}
            for one in soak.violations.kept
        ],
        "violations by kind": dict(soak.violations.counts),
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the report for people."""
    again = f"make soak SECONDS={found['seconds']:.0f} SEED={found['seed']}"
    yield f"Seed {found['seed']}, {found['seconds']:.0f} s. The same again: {again}"
    yield ""
    yield f"Traffic: {_told(found['calls'])}"
    yield f"Answers: {_told(found['answers'])}"
    yield f"Stored: {found['conversations']} conversations, {found['messages']} messages, {found['files']} files"
    yield f"Requests: {_told(found['requests'])}"
    yield f"Callbacks: {_told(found['receivers'])}; retried: {_told(found['retried'])}"
    yield f"Met: {_told(found['met'])}"
    if found["not met"]:
        yield f"Not met: {', '.join(found['not met'])}"
    yield ""
    yield "Seconds from the mend of each, or from its cause, until all was as before:"
    yield ""
    yield "| fault | times | median | worst |"
    yield "| --- | ---: | ---: | ---: |"
    for name, one in found["faults"].items():
        yield f"| {name} | {one['times']} | {_seconds(one['median'])} | {_seconds(one['worst'])} |"
    for name, why in found["prevented"].items():
        yield f"Not caused: {name}. {why}"
    yield ""
    yield "| process that lived longest, worker that grew most | s | MiB at first | at last | most |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for one in found["memory"]:
        cells = " | ".join(f"{one[name] / 1024 / 1024:.0f}" for name in ("first", "last", "peak"))
        yield f"| {one['kind']} | {one['seconds']} | {cells} |"
    yield ""
    yield "| table | size | rows | dead rows |"
    yield "| --- | ---: | ---: | ---: |"
    for one in found["tables"]:
        yield f"| {one['name']} | {watching.shown(one['size'])} | {one['live']} | {one['dead']} |"
    yield f"Queue: {_told(found['queue'])}"
    yield ""
    if not found["violations"]:
        yield "No violation."
        return
    yield f"{sum(found['violations by kind'].values())} VIOLATIONS: {_told(found['violations by kind'])}"
    for one in found["violations"]:
        during = f" [during: {one['during']}]" if one["during"] else ""
        yield f"  {one['at']:5} s  {one['kind']}: {one['told']}{during}"


def _told(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or "nothing"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
