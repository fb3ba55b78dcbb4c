"""Commands to a station: trigger, set-lot, set-recipe, pause, resume.

The delivery process committed each command before it acknowledged it to the broker; here it is carried out
and its answer queued in the transaction that marks it answered. Carrying one out twice (a kill in between) is
harmless: a trigger is found again by its request id, the others set what is already set.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog

from inspector.clock import UtcClock
from inspector.errors import CommandError, DiskFullError, InspectorError
from inspector.mqtt.messages import command_result_message
from inspector.records import PartIdSource, Purpose
from inspector.store.commands import Command, answer_command, open_commands
from inspector.store.database import Database
from inspector.store.stations import set_station
from inspector.store.triggers import accept_trigger
from pipelines.station_intake import CommandIntake, Gate, Intake
from pipelines.station_lane import LaneSettings
from pipelines.station_recipe import ActiveRecipe

log = structlog.get_logger(__name__)


class CommandDesk:
    """Serves the open commands of one station, in the order they were received."""

    def __init__(
        self,
        lane: LaneSettings,
        db: Database,
        recipe: ActiveRecipe,
        gate: Gate,
        intakes: Mapping[str, Intake],
        clock: UtcClock,
    ) -> None:
        self._lane = lane
        self._db = db
        self._recipe = recipe
        self._gate = gate
        self._intakes = {camera: intake for camera, intake in intakes.items() if isinstance(intake, CommandIntake)}
        self._clock = clock
        self._verbs = {
            "trigger": self._trigger,
            "set-lot": self._set_lot,
            "set-recipe": self._set_recipe,
            "pause": self._pause,
            "resume": self._resume,
        }

    def serve_open_commands(self) -> None:
        """Carry out and answer what is waiting. While the disk is full, commands wait too."""
        with suppress(DiskFullError):
            for command in open_commands(self._db, self._lane.station):
                self._serve(command)

    def _serve(self, command: Command) -> None:
        try:
            verb = self._verbs.get(command.verb)
            if verb is None:
                raise CommandError(f"unknown verb {command.verb!r}; known: {', '.join(self._verbs)}")
            detail = verb(command)
            accepted = True
        except DiskFullError:
            raise
        except InspectorError as error:
            detail, accepted = {"error": str(error)}, False
        answer = command_result_message(
            self._lane.plant.mqtt.topic_root,
            self._lane.station,
            command.verb,
            command.request_id,
            ok=accepted,
            detail=detail,
            response_topic=command.response_topic,
            correlation=command.correlation,
        )
        answer_command(self._db, command.command_id, answer, self._clock())
        log.info(
            "command_answered",
            station=self._lane.station,
            verb=command.verb,
            request_id=command.request_id,
            accepted=accepted,
            **detail,
        )

    def _trigger(self, command: Command) -> dict[str, Any]:
        if not self._intakes:
            raise CommandError("no camera of this station is triggered by command")
        closed = "; ".join(self._gate.reasons().values())
        if closed:
            raise CommandError(f"the station takes no parts now: {closed}")
        arguments = command.arguments
        part_id = arguments.get("part_id")
        acceptance = accept_trigger(
            self._db,
            self._lane.station,
            cameras=tuple(self._intakes),
            accepted_utc_us=self._clock(),
            purpose=Purpose(arguments.get("purpose") or self._lane.settings.purpose),
            part_id=part_id,
            part_id_source=PartIdSource.COMMAND if part_id else PartIdSource.NONE,
            lot=arguments.get("lot"),
            attempt=arguments.get("attempt") or 1,
            request_id=command.request_id,
        )
        if acceptance.state == "new":
            for intake in self._intakes.values():
                intake.announce(acceptance.trigger)
        trigger = acceptance.trigger
        return {"trigger_id": str(trigger.trigger_id), "sequence": trigger.sequence}

    def _set_lot(self, command: Command) -> dict[str, Any]:
        lot = command.arguments["lot"]
        set_station(self._db, self._lane.station, lot=lot or "")
        return {"lot": lot}

    def _set_recipe(self, command: Command) -> dict[str, Any]:
        loaded = self._recipe.preload(command.arguments["recipe"])
        set_station(self._db, self._lane.station, recipe=loaded.ref)
        self._recipe.activate(loaded)
        self._gate.set("recipe", None)
        return {"recipe": loaded.ref.name, "version": loaded.ref.version, "sha256": loaded.ref.sha256}

    def _pause(self, command: Command) -> dict[str, Any]:
        set_station(self._db, self._lane.station, paused=True)
        self._gate.set("paused", "paused by command")
        return {"paused": True}

    def _resume(self, command: Command) -> dict[str, Any]:
        set_station(self._db, self._lane.station, paused=False)
        self._gate.set("paused", None)
        return {"paused": False}
