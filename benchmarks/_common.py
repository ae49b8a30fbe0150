"""What the benchmarks share: interleaved rounds, ratios, and a record of where they ran."""

import argparse
import gc
import json
import statistics
from datetime import UTC, datetime
from pathlib import Path

from resnet_course.reproduce import logs


def parser(description):
    p = argparse.ArgumentParser(description=description.split("\n")[0])
    p.add_argument("--quick", action="store_true", help="tiny sizes: does it still run?")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    return p


def interleave(contenders, rounds):
    """Call every contender once a round, in turn -> {name: [value of each round]}.

    In turn, so that whatever else the machine does hits them all. A round before warms up.
    """
    values = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, measure in contenders.items():
            gc.collect()
            value = measure()
            if number:
                values[name].append(value)
    return values


def ratios(values, base):
    """Median over the rounds of the ratio to `base` in the same round -> {name: ratio}."""
    return {
        name: statistics.median(a / b for a, b in zip(each, values[base], strict=True))
        for name, each in values.items()
    }


def origin(script, device="cpu"):
    """Machine, versions, commit, command and date, for the JSON file."""
    return {
        "benchmark": Path(script).stem,
        "command": f"python benchmarks/{Path(script).name}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": logs.hardware(device),
        "versions": logs.versions(),
        "commit": logs.commit(),
    }


def describe(record):
    """One line on the machine, above a table."""
    hardware = record["hardware"]
    threads = f"{hardware['threads']} thread{'s' if hardware['threads'] > 1 else ''}"
    machine = hardware["gpu"] or f"{hardware['processor']}, {threads}"
    return f"{record['benchmark']} on {machine}, torch {record['versions']['torch']}"


def save(record, path):
    """The record as JSON, one entry a line."""
    lines = [f'"{k}": {json.dumps(v, allow_nan=False)}' for k, v in logs.rounded(record).items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    logs.write_atomically(path, lambda file: file.write(text.encode()))
    print(f"written: {path}")
