"""Schemathesis against a running server: requests made from its own OpenAPI document, answers held against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ENDLESS = "/(stream|video)$"
"""Answers without an end, which a test of answers cannot wait for."""
NOT_HELD_AGAINST_IT = "unsupported_method"
"""`GET /events/{id}/verdict` is also `/events/{id}/{kind}` with an unknown kind: it is refused with 422, not with 405."""

PHASES = "coverage,fuzzing,stateful"
"""Boundary values, random ones and sequences of requests. The boundary values take six times as long as the others."""

SETTINGS = """
[[operations]]
include-path-regex = "/setup/|/training$"

[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 401, 403, 404, 409]
"""
"""A schema cannot say which settings can be used here: an address that nobody answers at, a folder without a video."""


@dataclass(frozen=True)
class SchemathesisResult:
    """What a run came to.

    Attributes:
        n_cases: requests made.
        failures: what was wrong, as Schemathesis tells it; empty where nothing was.
        seconds: that it took.
    """

    n_cases: int
    failures: str
    seconds: float


def run_schemathesis(
    url: str, token: str | None, folder: Path, per_operation: int, seed: int, phases: str = PHASES
) -> SchemathesisResult:
    """Boundary values, random ones and sequences of requests, valid and not, for every operation that has an end.

    Args:
        url: of the page.
        token: proves the requests; where one is needed, it is left out now and then to see that it is.
        folder: for what Schemathesis writes.
        per_operation: random requests of each, at most.
        phases: of Schemathesis, joined by commas.
    """
    report = folder / "described.json"
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS, encoding="utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"]
    command += [f"{url}/api/v1/openapi.json", "--no-color"]
    command += ["--phases", phases, "--mode", "all", "--max-examples", str(per_operation)]
    command += ["--seed", str(seed), "--exclude-path-regex", ENDLESS, "--exclude-checks", NOT_HELD_AGAINST_IT]
    command += ["--request-timeout", "30", "--report", "json", "--report-json-path", str(report)]
    if token is not None:
        command += ["--header", f"Authorization: Bearer {token}"]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True, check=False)
    if not report.is_file():
        return SchemathesisResult(0, done.stdout + done.stderr, 0.0)
    report_json = json.loads(report.read_text(encoding="utf-8"))
    is_complete = done.returncode == 0 and report_json["complete"]
    return SchemathesisResult(
        report_json["test_cases"]["generated"], "" if is_complete else done.stdout, report_json["running_time"]
    )
