"""The cloud process of a trial: `run_escalation` as the supervisor starts it, with the trial's clock.

python -m tests.cloud.process CONFIG DATA_DIR CLOCK_FILE NICENESS
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from inspector.config import load_config
from pipelines.escalate import run_escalation
from pipelines.logs import configure_logging
from tests.cloud.trial_clock import TrialClock


def main(config_path: str, data_dir: str, clock_path: str, niceness: str) -> None:
    configure_logging(json_lines=True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    os.nice(int(niceness))
    run_escalation(load_config(Path(config_path)), Path(data_dir), stop, clocks=TrialClock(Path(clock_path)))


if __name__ == "__main__":
    main(*sys.argv[1:])
