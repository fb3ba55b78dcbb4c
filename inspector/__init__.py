"""The parts of the inspection service: records and settings, cameras, detector, generator, store, MQTT."""

__version__ = "0.1.0"
