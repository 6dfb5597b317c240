"""Results of benchmarks: rows of one shape, a file a benchmark under ``benchmarks/results``.

``FIRSTSIGHT_RESULTS`` names another folder.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(os.environ.get("FIRSTSIGHT_RESULTS", Path(__file__).with_name("results")))


def row(
    measure: str, value: float, unit: str, goal: str = "", holds: bool | None = None, **more: Any
) -> dict[str, Any]:
    """Return one result with what is needed to repeat it: command, commit, machine and date."""
    return {
        "measure": measure,
        "value": round(value, 6),
        "unit": unit,
        "goal": goal,
        "holds": holds,
        **more,
        "command": " ".join(["python", *sys.argv]),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {_processor()}, no GPU used",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def report(name: str, rows: list[dict[str, Any]], *, keep: bool = True) -> None:
    """Print rows as they are read by people and, unless told not to, keep them in ``results/NAME.json``."""
    for r in rows:
        verdict = {True: "holds", False: "MISSED", None: ""}[r["holds"]]
        print(f"{r['measure']:<64} {r['value']:>12g} {r['unit']:<10} {r['goal']:<10} {verdict}")
    if keep:
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(rows, indent=1, ensure_ascii=False)
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
