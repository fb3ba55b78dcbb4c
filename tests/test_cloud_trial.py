"""A short cloud trial with every fault, kills while sending and a day offline: every count is what it must be."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from inspector.cloud.simulation import PolicyOutcome
from tests.cloud.audit_trial import TrialAudit, check_budget
from tests.cloud.faulty_servers import FAULTS, FINAL_FAULTS
from tests.cloud.lane_latency import compare_p99
from tests.cloud.policies import BOTH, HALF, REVIEW, SAVING, Tally
from tests.cloud.trial_clock import SPEED, TrialClock


@pytest.mark.trial
@pytest.mark.timeout(600)
def test_short_cloud_trial(tmp_path: Path) -> None:
    """Forty-five parts, a kill: nothing lost, nothing exceeded, nothing mixed up. `make cloud-trial` does 1,150."""
    command = [sys.executable, "-m", "tests.cloud_trial", "--parts", "45", "--kills", "1", "--seed", "11"]
    done = subprocess.run(
        [*command, "--lane-pairs", "0", "--work", str(tmp_path / "work")],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "kills: 1" in done.stdout.splitlines()[-1] and "FAILED" not in done.stdout


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


def test_pairs_of_blocks_separate_effect_from_noise() -> None:
    """A host that is slow now and then moves neither ratio nor interval; what slows every block does both."""
    rng = np.random.default_rng(1)
    host = rng.choice([1.0, 4.0], 12)
    off, same, slower = (
        [list(factor * slow * rng.gamma(20.0, 5.0, 60)) for slow in host] for factor in (1.0, 1.0, 1.5)
    )
    equal, effect = compare_p99(off, same), compare_p99(off, slower)
    assert equal.low < 1.0 < equal.high and 0.85 < equal.ratio < 1.15
    assert effect.low > 1.2 and 1.3 < effect.ratio < 1.7


def test_promises_are_checked_part_by_part() -> None:
    """One defect that reuse misses and REVIEW alone stops breaks the promise, however many it finds in its stead."""

    def outcome(policy: str, missed: tuple[str, ...], money: int = 100) -> PolicyOutcome:
        return PolicyOutcome(policy, 10, 5, 0, 0, money, 3, missed, ())

    for missed, kept in (((), True), (("a",), True), (("c",), False)):
        tally = Tally()
        saving, both = outcome(SAVING, missed, 40), outcome(BOTH, missed, 40)
        tally.add((outcome("everything", (), 1000), outcome(REVIEW, ("a", "b")), saving, both))
        assert set(tally.check(0.01).values()) == {True, kept} and tally.dearer == 0
    assert Tally(money=Counter({SAVING: 60, REVIEW: 100})).check(0.05)[HALF] is False
