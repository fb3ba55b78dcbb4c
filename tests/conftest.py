"""Makes `tests` importable, behind everything that is installed: what is tested is the installed package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
