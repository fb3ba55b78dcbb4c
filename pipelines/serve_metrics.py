"""/healthz and Prometheus /metrics for the plant's monitoring, on loopback unless configured otherwise."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inspector.clock import utc_now_us
from inspector.config import PlantConfig
from inspector.errors import StoreError
from inspector.store.database import Database
from inspector.store.disk import free_mb
from inspector.store.inspections import count_verdicts
from inspector.store.outbox import count_unsent
from inspector.store.processes import latest_camera_health, list_processes
from pipelines.station_status import SILENT_AFTER_S

log = structlog.get_logger(__name__)
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@contextmanager
def serve_metrics(config: PlantConfig, data_dir: Path, db: Database) -> Iterator[int | None]:
    """Serve until the block ends; yields the port, None when switched off. `OSError` when it is taken."""
    if config.http.port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(StationCollector(config, data_dir, db))
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/healthz":
            healthy, body = describe_health(config, data_dir, db)
            status = "200 OK" if healthy else "503 Service Unavailable"
            start_response(status, [("Content-Type", "application/json")])
            return [json.dumps(body).encode()]
        if environ["PATH_INFO"] == "/metrics":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there are /healthz and /metrics\n"]

    server = make_server(config.http.host, config.http.port, application, handler_class=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    log.info("metrics_served", host=config.http.host, port=server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def describe_health(config: PlantConfig, data_dir: Path, db: Database) -> tuple[bool, dict[str, Any]]:
    """(healthy, details): healthy while every process beats and says `online`, and the disk has space."""
    try:
        processes = {
            row.process: {
                "state": row.state if (utc_now_us() - row.beat_utc_us) / 1e6 < SILENT_AFTER_S else "silent",
                "reasons": list(row.reasons),
            }
            for row in list_processes(db)
        }
    except StoreError as error:
        return False, {"error": str(error)}
    expected = {"delivery", *(f"station:{station}" for station in config.stations())}
    missing = sorted(expected - processes.keys())
    disk_ok = free_mb(data_dir) >= config.store.min_free_mb
    healthy = disk_ok and not missing and all(process["state"] == "online" for process in processes.values())
    return healthy, {"processes": processes, "missing": missing, "free_mb": round(free_mb(data_dir))}


class StationCollector(Collector):
    """Reads the database at each scrape; nothing is counted twice after a restart."""

    def __init__(self, config: PlantConfig, data_dir: Path, db: Database) -> None:
        self._config = config
        self._data_dir = data_dir
        self._db = db

    def collect(self) -> Iterator[Metric]:
        verdicts = CounterMetricFamily(
            "inspector_verdicts", "Triggers by verdict (the worst view counts).", labels=["station", "verdict"]
        )
        pending = GaugeMetricFamily("inspector_pending", "Accepted triggers without a verdict.", labels=["station"])
        late = CounterMetricFamily("inspector_late", "Verdicts after the station's deadline.", labels=["station"])
        for station in self._config.stations():
            counts = count_verdicts(self._db, station)
            for verdict, count in (
                ("OK", counts.ok),
                ("NG", counts.ng),
                ("REVIEW", counts.review),
                ("NOT_INSPECTED", counts.not_inspected),
            ):
                verdicts.add_metric([station, verdict], count)
            pending.add_metric([station], counts.pending)
            late.add_metric([station], counts.late)
        yield from (verdicts, pending, late)
        yield GaugeMetricFamily("inspector_unsent_messages", "Outbox rows not sent.", value=count_unsent(self._db))
        yield GaugeMetricFamily("inspector_free_mb", "Free space of the data directory.", value=free_mb(self._data_dir))
        yield from self._camera_metrics()

    def _camera_metrics(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily("inspector_camera_connected", "1 when connected.", labels=["station", "camera"])
        rate = GaugeMetricFamily("inspector_camera_frames_per_s", "Frames a second.", labels=["station", "camera"])
        dropped = CounterMetricFamily("inspector_camera_dropped", "Frames given up.", labels=["station", "camera"])
        for station, health in latest_camera_health(self._db):
            connected.add_metric([station, health.camera], float(health.connected))
            rate.add_metric([station, health.camera], health.frames_per_s or 0.0)
            dropped.add_metric([station, health.camera], health.dropped)
        yield from (connected, rate, dropped)


class _QuietHandler(WSGIRequestHandler):
    """Requests of the monitoring are not worth a log line each."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the base class's
        log.debug("http_request", line=format % arguments)
