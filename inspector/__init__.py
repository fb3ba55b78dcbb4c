"""The parts of the inspection service: records and settings, cameras, detector, generator, store, MQTT."""

import os

# ONNX Runtime from 1.29 on reports to its maker unless this stands before it is first imported, by whomever.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
