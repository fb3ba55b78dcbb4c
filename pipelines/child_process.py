"""The entry of every process that the supervisor starts.

python -m pipelines.child_process KIND CONFIG DATA_DIR SUPERVISOR_PID [STATION]
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from inspector.config import PlantConfig, load_config
from inspector.errors import InspectorError
from pipelines.logs import configure_logging

PR_SET_PDEATHSIG = 1
EVIDENCE_NICENESS = 19
"""The least: a picture can wait, a verdict cannot."""
CLOUD_NICENESS = 15
EXIT_OK, EXIT_ERROR = 0, 1

log = structlog.get_logger(__name__)


def main(arguments: list[str]) -> int:
    """Run one process until SIGTERM or until the supervisor is gone; the exit status says how it ended."""
    kind, config_path, data_dir, supervisor_pid, *rest = arguments
    configure_logging(json_lines=True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides the order
    die_with_parent(int(supervisor_pid))
    try:
        config = load_config(Path(config_path))
        _run_kind(kind, config, Path(data_dir), rest, stop)
    except InspectorError as error:
        log.error("process_failed", kind=kind, error=type(error).__name__, reason=str(error))
        return EXIT_ERROR
    return EXIT_OK


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, however it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the request took effect, perhaps while this one was loading
            os.kill(os.getpid(), signal.SIGTERM)


def _run_kind(kind: str, config: PlantConfig, data_dir: Path, rest: list[str], stop: threading.Event) -> None:
    # Imported here because each process should carry only what it runs: delivery needs no detector.
    if kind == "station":
        from pipelines.run_station import run_station

        run_station(config, data_dir, rest[0], stop)
    elif kind == "delivery":
        from pipelines.deliver import run_delivery

        run_delivery(config, data_dir, stop)
    elif kind == "evidence":
        from pipelines.evidence import run_evidence
        from pipelines.retain import run_retention

        os.nice(EVIDENCE_NICENESS)
        _run_beside(lambda: run_retention(config, data_dir, stop), stop)
        run_evidence(config, data_dir, stop)
    elif kind == "cloud":
        from pipelines.escalate import run_escalation

        os.nice(CLOUD_NICENESS)
        run_escalation(config, data_dir, stop)
    else:
        raise InspectorError(f"unknown process kind {kind!r}")


def _run_beside(work: Callable[[], None], stop: threading.Event) -> None:
    """A second loop in this process; if it ends by an error, the whole process stops and is restarted."""

    def guarded() -> None:
        try:
            work()
        except BaseException:
            stop.set()
            raise

    threading.Thread(target=guarded, name="retention", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
