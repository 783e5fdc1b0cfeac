"""`make bench`: print each figure with its floor, and write benchmarks/results.json."""

import argparse
import json

from benchmarks import world


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, for a look")
    chatters = 1_000 if parser.parse_args().quick else 10_000
    with world.servers():
        from benchmarks import deletions  # noqa: PLC0415  (needs the apps)

        seconds = {}
        for name, took in deletions.run(chatters):
            seconds[name] = took
            print(f"{chatters} deletions, {name}: {took:.2f} s, {chatters / took:,.0f} a second")  # noqa: T201
    floor, ours = seconds["set-wise SQL"], seconds["ours"]
    print(f"ours / set-wise SQL: {ours / floor:.2f}")  # noqa: T201
    print(f"ours / one transaction a request: {ours / seconds['one transaction a request']:.2f}")  # noqa: T201
    result = {
        "name": "queued deletions",
        "size": chatters,
        "floor_s": floor,
        "ours_s": ours,
        "ratio": ours / floor,
        "target": 2.0,
        "direction": "under",
        "peak_mib": None,
    }
    (world.ROOT / "benchmarks" / "results.json").write_text(json.dumps([result], indent=1))


if __name__ == "__main__":
    main()
