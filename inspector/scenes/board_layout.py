"""The one board this line makes: which part stands where, its pads, and the copper between them.

The design is fixed; seeds vary lots and parts, never the product. Millimetres from the top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inspector.scenes import chips, tall_parts
from inspector.scenes.relief import Relief
from inspector.scenes.routing import Copper, Router

BOARD_WIDTH_MM, BOARD_HEIGHT_MM, BOARD_THICK_MM = 102.0, 57.0, 1.6
MOUNTING_HOLES = ((4.2, 4.2), (97.8, 4.2), (4.2, 52.8), (97.8, 52.8))
HOLE_RADIUS_MM, RING_RADIUS_MM = 1.6, 3.0
LABEL_BOX = (76.6, 2.6, 92.6, 9.0)
LOT_CODE_REFS = ("U1", "U4")
"""Parts whose last line of marking is the date code of the lot."""

PadBox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """One component: reference, package, value printed on it, centre (mm), quarter turns."""

    ref: str
    package: str
    value: str
    x: float
    y: float
    turns: int = 0

    def pads(self) -> tuple[PadBox, ...]:
        """Pads (x, y, width, height) on the board."""
        placed = []
        for px, py, width, height in PADS[self.package]:
            for _ in range(self.turns % 4):
                px, py, width, height = py, -px, height, width
            placed.append((self.x + px, self.y + py, width, height))
        return tuple(placed)

    def outline(self) -> tuple[float, float]:
        """Width and height of the body on the board."""
        width, height = BODIES[self.package]
        return (height, width) if self.turns % 2 else (width, height)


SMALL_OUTLINE_8 = chips.two_row_package(8, 1.27, 3.9, 4.9, 1.5, 0.44)
SMALL_OUTLINE_16 = chips.two_row_package(16, 1.27, 3.9, 9.9, 1.5, 0.44)
QUAD_44 = chips.four_side_package(44, 0.8, 10.0)
SOT_23 = chips.transistor_package()
SOT_223 = chips.regulator_package()

CHIP_SPECS = {
    "R0805": chips.RESISTOR_0805,
    "R1206": chips.RESISTOR_1206,
    "C0805": chips.CAPACITOR_0805,
    "C1206": chips.CAPACITOR_1206,
    "L0805": chips.FERRITE_0805,
}
LEGGED_SPECS = {"SO8": SMALL_OUTLINE_8, "SO16": SMALL_OUTLINE_16, "QFP44": QUAD_44, "SOT23": SOT_23, "SOT223": SOT_223}


def _chip_pads(spec: chips.ChipBody) -> tuple[PadBox, ...]:
    length = spec.terminal + 0.75
    middle = spec.length / 2 + 0.62 - length / 2
    return ((-middle, 0.0, length, spec.width + 0.2), (middle, 0.0, length, spec.width + 0.2))


PADS: dict[str, tuple[PadBox, ...]] = {
    **{name: _chip_pads(spec) for name, spec in CHIP_SPECS.items()},
    **{name: spec.pads() for name, spec in LEGGED_SPECS.items()},
    "LED": ((-1.15, 0.0, 1.1, 1.4), (1.15, 0.0, 1.1, 1.4)),
    "SMA": ((-2.2, 0.0, 1.8, 1.9), (2.2, 0.0, 1.8, 1.9)),
    "TANT": ((-2.85, 0.0, 1.8, 2.6), (2.85, 0.0, 1.8, 2.6)),
    "CAN": ((-3.2, 0.0, 3.0, 1.5), (3.2, 0.0, 3.0, 1.5)),
    "XTAL": ((-2.45, 0.0, 1.4, 1.4), (2.45, 0.0, 1.4, 1.4)),
    "COIL": ((-2.9, 0.0, 2.2, 3.4), (2.9, 0.0, 2.2, 3.4)),
    "HDR8X2": tuple(((i - 3.5) * 2.54, y, 1.5, 1.5) for i in range(8) for y in (-1.27, 1.27)),
    "HDR10": tuple(((i - 4.5) * 2.54, 0.0, 1.5, 1.5) for i in range(10)),
    "USB": (
        *((x, y, 1.8, 1.8) for x in (-1.8, 2.0) for y in (-4.1, 4.1)),
        *((4.1, (i - 2) * 0.9, 1.4, 0.5) for i in range(5)),
    ),
    "TERM3": tuple(((i - 1) * 5.08, 0.0, 2.6, 2.6) for i in range(3)),
    "TERM4": tuple(((i - 1.5) * 5.08, 0.0, 2.6, 2.6) for i in range(4)),
    "KEY": tuple((x, y, 1.8, 1.2) for x in (-3.6, 3.6) for y in (-2.25, 2.25)),
}
BODIES: dict[str, tuple[float, float]] = {
    **{name: (spec.length, spec.width) for name, spec in CHIP_SPECS.items()},
    **{name: (spec.width, spec.height) for name, spec in LEGGED_SPECS.items()},
    "LED": (2.0, 1.3),
    "SMA": (4.2, 2.6),
    "TANT": (5.8, 3.2),
    "CAN": (6.6, 6.6),
    "XTAL": (11.4, 4.8),
    "COIL": (6.6, 6.6),
    "HDR8X2": (20.3, 5.1),
    "HDR10": (25.4, 2.54),
    "USB": (7.4, 7.7),
    "TERM3": (15.6, 8.2),
    "TERM4": (20.7, 8.2),
    "KEY": (6.2, 6.2),
}

PLACEMENTS: tuple[Placement, ...] = (
    Placement("J1", "USB", "", 3.5, 17.0),
    Placement("J2", "TERM3", "", 18.5, 51.6),
    Placement("J3", "TERM4", "", 40.5, 51.6),
    Placement("J4", "HDR8X2", "", 97.6, 28.5, 1),
    Placement("J5", "HDR10", "", 58.5, 3.6),
    Placement("U1", "QFP44", "LI32F405|CORTEX-M4", 57.5, 25.5),
    Placement("U2", "SO8", "TL062|7K4", 36.0, 13.5),
    Placement("U3", "SO8", "LM358|P91", 36.0, 22.5),
    Placement("U4", "SO16", "ULN2003A", 81.5, 21.0, 3),
    Placement("U5", "SO16", "74HC595D|H2K", 81.5, 33.5, 3),
    Placement("U6", "SO8", "24C256|W3", 76.5, 45.5, 3),
    Placement("U7", "SOT223", "1117|33", 22.0, 15.5),
    Placement("Q1", "SOT23", "1AM", 27.5, 41.0, 3),
    Placement("Q2", "SOT23", "1AM", 33.5, 41.0, 3),
    Placement("Q3", "SOT23", "1AM", 39.5, 41.0, 3),
    Placement("Q4", "SOT23", "1AM", 45.5, 41.0, 3),
    Placement("Y1", "XTAL", "16.000", 57.5, 39.5),
    Placement("L1", "COIL", "220", 13.0, 29.0),
    Placement("C1", "CAN", "100", 12.5, 8.2),
    Placement("C2", "CAN", "220", 22.5, 30.0, 1),
    Placement("C3", "CAN", "100", 13.0, 39.5),
    Placement("C4", "TANT", "106", 33.0, 32.5),
    Placement("C5", "TANT", "475", 23.5, 6.5),
    Placement("D1", "SMA", "S4", 12.8, 17.0, 1),
    Placement("D2", "SMA", "S4", 20.5, 38.5, 1),
    Placement("S1", "KEY", "", 89.0, 47.5),
    Placement("D3", "LED", "", 60.5, 52.5),
    Placement("D4", "LED", "", 66.0, 52.5),
    Placement("D5", "LED", "", 71.5, 52.5),
    Placement("R1", "R0805", "331", 60.5, 49.3),
    Placement("R2", "R0805", "331", 66.0, 49.3),
    Placement("R3", "R0805", "331", 71.5, 49.3),
    Placement("R4", "R1206", "102", 27.5, 45.0),
    Placement("R5", "R1206", "102", 33.5, 45.0),
    Placement("R6", "R1206", "102", 39.5, 45.0),
    Placement("R7", "R1206", "102", 45.5, 45.0),
    Placement("R8", "R0805", "103", 27.2, 13.2, 1),
    Placement("R9", "R0805", "103", 30.6, 13.2, 1),
    Placement("C6", "C1206", "", 28.5, 18.4),
    Placement("C7", "C0805", "", 28.5, 22.2),
    Placement("R10", "R0805", "472", 28.5, 25.8),
    Placement("R11", "R0805", "223", 36.0, 7.4),
    Placement("R12", "R0805", "223", 31.6, 7.4),
    Placement("C8", "C0805", "", 40.6, 7.4),
    Placement("R13", "R0805", "104", 43.5, 12.0, 1),
    Placement("R14", "R0805", "104", 46.9, 12.0, 1),
    Placement("C9", "C0805", "", 43.5, 17.0, 1),
    Placement("C10", "C0805", "", 46.9, 17.0, 1),
    Placement("R15", "R0805", "101", 43.5, 22.5, 1),
    Placement("C11", "C0805", "", 43.5, 28.0, 1),
    Placement("C12", "C1206", "", 40.4, 34.5, 1),
    Placement("C13", "C1206", "", 44.2, 34.5, 1),
    Placement("C14", "C0805", "", 49.0, 34.2, 1),
    Placement("C15", "C0805", "", 52.6, 34.6),
    Placement("C16", "C0805", "", 62.4, 34.6),
    Placement("R16", "R0805", "105", 57.5, 34.6),
    Placement("C17", "C0805", "", 51.5, 16.6),
    Placement("C18", "C0805", "", 63.6, 16.6),
    Placement("R17", "R0805", "103", 53.6, 12.6, 1),
    Placement("R18", "R0805", "103", 57.0, 12.6, 1),
    Placement("R19", "R0805", "103", 60.4, 12.6, 1),
    Placement("R20", "R0805", "103", 63.8, 12.6, 1),
    Placement("C19", "C0805", "", 67.5, 22.0, 1),
    Placement("C20", "C0805", "", 67.5, 29.0, 1),
    Placement("L2", "L0805", "", 70.6, 12.0),
    Placement("C21", "C1206", "", 70.6, 16.0),
    Placement("R21", "R0805", "470", 72.6, 22.6, 1),
    Placement("R22", "R0805", "470", 72.6, 28.4, 1),
    Placement("R23", "R0805", "470", 72.6, 34.2, 1),
    Placement("C22", "C0805", "", 81.5, 14.6),
    Placement("C23", "C0805", "", 81.5, 27.2),
    Placement("C24", "C0805", "", 85.6, 40.0),
    Placement("R24", "R0805", "472", 69.5, 40.5),
    Placement("R25", "R0805", "472", 69.5, 43.6),
    Placement("R26", "R0805", "472", 69.5, 46.7),
    Placement("R27", "R0805", "000", 90.6, 16.2, 1),
    Placement("R28", "R0805", "000", 90.6, 40.4, 1),
    Placement("C25", "C0805", "", 54.0, 45.6),
    Placement("C26", "C0805", "", 61.0, 45.6),
)


def draw_component(placement: Placement, px_per_mm: float) -> Relief:
    """The component itself, turned as placed; the same package and value always look the same."""
    value, package = placement.value, placement.package
    rng = np.random.default_rng([7, *package.encode(), *value.encode()])
    if package in CHIP_SPECS:
        relief = chips.chip(CHIP_SPECS[package], value, px_per_mm, rng)
    elif package in LEGGED_SPECS:
        lines = tuple(value.split("|")) + (("",) if placement.ref in LOT_CODE_REFS else ())
        relief = chips.leg_part(LEGGED_SPECS[package], lines, px_per_mm, rng)
    else:
        relief = _draw_other(package, value, px_per_mm, rng)
    return relief.turned(placement.turns)


def _draw_other(package: str, value: str, px_per_mm: float, rng: np.random.Generator) -> Relief:
    labelled = {
        "LED": chips.led,
        "SMA": chips.diode,
        "TANT": chips.tantalum,
        "CAN": tall_parts.capacitor_can,
        "XTAL": tall_parts.crystal,
        "COIL": tall_parts.inductor,
    }
    if package in labelled:
        return labelled[package](value, px_per_mm, rng)
    if package.startswith("HDR"):
        return tall_parts.pin_header(*((8, 2) if package == "HDR8X2" else (10, 1)), px_per_mm, rng)
    if package.startswith("TERM"):
        return tall_parts.terminal_block(int(package[-1]), px_per_mm, rng)
    plain = {"USB": tall_parts.usb_socket, "KEY": tall_parts.push_button}
    return plain[package](px_per_mm, rng)


@lru_cache(maxsize=1)
def route_board() -> Copper:
    """Traces and vias between the pads of `PLACEMENTS`; the same every time, about a second of work."""
    rng = np.random.default_rng(20_240)
    router = Router(BOARD_WIDTH_MM, BOARD_HEIGHT_MM)
    for x, y in MOUNTING_HOLES:
        router.block(x, y, 7.2, 7.2)
    pads = [(placement, pad) for placement in PLACEMENTS for pad in placement.pads()]
    for owner, (_, (x, y, width, height)) in enumerate(pads, start=1):
        router.block(x, y, width + 0.3, height + 0.3, owner)
    spots = np.array([(pad[0], pad[1]) for _, pad in pads])
    used: set[int] = set()
    for first in rng.permutation(len(pads)):
        if int(first) in used:
            continue
        _route_pad(router, int(first), pads, spots, used, rng)
    for _ in range(260):
        router.add_via((float(rng.uniform(3, BOARD_WIDTH_MM - 3)), float(rng.uniform(3, BOARD_HEIGHT_MM - 3))))
    return router.result()


def _route_pad(
    router: Router,
    first: int,
    pads: list[tuple[Placement, PadBox]],
    spots: np.ndarray,
    used: set[int],
    rng: np.random.Generator,
) -> None:
    placement, pad = pads[first]
    away = np.hypot(*(spots - spots[first]).T)
    near = [int(i) for i in np.argsort(away)[1:40] if pads[i][0] is not placement and int(i) not in used]
    for second in near[:3] if rng.random() < 0.75 else near[6:9]:
        if router.connect(pad[:2], pads[second][1][:2], first + 1, second + 1):
            used.update((first, second))
            return
    outward = np.sign(pad[0] - placement.x), np.sign(pad[1] - placement.y)
    direction = (float(outward[0]), 0.0) if pad[2] >= pad[3] else (0.0, float(outward[1]))
    if router.drop_via(pad[:2], first + 1, direction, rng):
        used.add(first)
