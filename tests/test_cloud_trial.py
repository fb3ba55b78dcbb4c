"""A short cloud trial with every fault, kills while sending and a day offline: every count is what it must be."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cloud.audit_trial import TrialAudit, check_budget
from tests.cloud.faulty_servers import FAULTS, FINAL_FAULTS
from tests.cloud.trial_clock import SPEED, TrialClock


@pytest.mark.trial
@pytest.mark.timeout(600)
def test_short_cloud_trial(tmp_path: Path) -> None:
    """Eighty parts, three kills: nothing lost, nothing exceeded, nothing mixed up. `make cloud-trial` does 1,150."""
    command = [sys.executable, "-m", "tests.cloud_trial", "--parts", "80", "--kills", "3", "--seed", "11"]
    done = subprocess.run(
        [*command, "--lane-pairs", "0", "--work", str(tmp_path / "work")],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "kills: 3" in done.stdout.splitlines()[-1] and "FAILED" not in done.stdout


def test_the_trial_has_every_fault() -> None:
    """Time-outs, resets, storms, server errors, slow bytes, wrong JSON and wrong schema are all among the faults."""
    assert {"hang", "reset_mid_body", "slow_bytes", "429", "500", "wrong_json", "wrong_schema"} <= set(FAULTS)
    assert sum(share for share, _ in FAULTS.values()) >= 99 and set(FAULTS) > FINAL_FAULTS


def test_the_audit_sees_an_exceeded_budget() -> None:
    """The trial's own arithmetic finds one request too many in an hour, and none when they are an hour apart."""
    for second_us, failures in ((3_599_000_000, 1), (3_600_000_000, 0)):
        rows = sqlite3.connect(":memory:")
        rows.row_factory = sqlite3.Row
        rows.execute("CREATE TABLE cloud_spend (station, debited_steady_us, size_bytes, money_micro)")
        rows.executemany("INSERT INTO cloud_spend VALUES ('p/l/s', ?, 10, 5)", [(1,), (1 + second_us,)])
        limit = {"requests_per_hour": 1, "requests_per_day": 9, "bytes_per_day": 99, "money_per_month": 1}
        audit = TrialAudit()
        check_budget(audit, rows, "p/l/s", dict(limit))
        rows.close()
        assert len(audit.failures) == failures


def test_the_trials_clock(tmp_path: Path) -> None:
    """Both clocks run fast; a jump moves the wall clock alone, passing time moves both."""
    clock = TrialClock.create(tmp_path / "clock.json")
    first = clock()
    clock.jump_wall(-86_400)
    clock.pass_time(3600)
    second = clock()
    assert second.boot_us - first.boot_us >= 3_600_000_000
    assert (second.wall_us - first.wall_us) - (second.boot_us - first.boot_us) == -86_400_000_000
    assert SPEED > 1
