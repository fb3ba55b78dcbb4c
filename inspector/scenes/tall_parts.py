"""The big parts of a board: capacitor cans, crystal, inductor, connectors, terminal block, button."""

from __future__ import annotations

import numpy as np

from inspector.scenes.chips import SOLDER, TIN, engrave, room_for, smooth_step
from inspector.scenes.light import linear
from inspector.scenes.relief import Relief, grain_noise

ALUMINIUM = linear("#c9cbcc")
GOLD = linear("#e0b85c")
BLACK_PLASTIC = linear("#1f2022")


def capacitor_can(label: str, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """An SMD electrolytic capacitor: bevelled base, crimped aluminium can, black polarity mark."""
    relief = Relief(room_for(8.6, 7.0, 5.0), px_per_mm)
    for side in (-1.0, 1.0):
        leg = relief.box(side * 3.5, 0, 1.6, 0.9, 0.1)
        relief.lay(leg, TIN, 0.15 * leg.rounded_edge(0.1), metal=1.0)
    base = relief.box(0, 0, 6.6, 6.6, 0.5)
    corner = np.abs(base.x + 3.3) + np.abs(base.y + 3.3) > 1.3
    corner &= np.abs(base.x + 3.3) + np.abs(base.y - 3.3) > 1.3
    relief.lay(base, BLACK_PLASTIC, 0.9 + 0.2 * base.rounded_edge(0.2), gloss=0.5, cover=corner.astype(np.float32))
    can = relief.disc(0, 0, 3.12)
    radius = can.distance + 3.12
    profile = 4.4 + 0.6 * can.rounded_edge(0.55) - 0.05 * smooth_step(2.55, 2.35, radius)
    relief.lay(can, ALUMINIUM, np.asarray(profile, np.float32), metal=1.0)
    window = (can.rows, can.columns)
    relief.height[window] += 0.004 * grain_noise(can.x.shape, rng, 0.10 * px_per_mm) * can.cover
    half = ((can.x < -1.15) & (radius < 2.75)).astype(np.float32)
    relief.mark(can, linear("#17181a"), 0.93 * half)
    relief.metal[window] *= 1.0 - 0.9 * half
    ink = linear("#1d1e20")
    engrave(relief, label, (0.85, -0.75), 0.95, 0.13, ink, 0.9)
    engrave(relief, "25V", (0.85, 0.75), 0.85, 0.12, ink, 0.9)
    return relief


def crystal(label: str, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A quartz crystal in a drawn metal can."""
    relief = Relief(room_for(12.6, 5.0, 3.5), px_per_mm)
    flange = relief.box(0, 0, 11.4, 4.8, 2.3)
    relief.lay(flange, TIN, 0.35 * flange.rounded_edge(0.2), metal=1.0)
    can = relief.box(0, 0, 10.4, 3.9, 1.95)
    relief.lay(can, linear("#c8c6bf"), 2.6 + 0.9 * can.rounded_edge(0.75), metal=1.0)
    window = (can.rows, can.columns)
    rolled = grain_noise((can.x.shape[0], 1), rng, 0.05 * px_per_mm) * np.ones_like(can.x)
    relief.height[window] += 0.004 * (rolled + grain_noise(can.x.shape, rng, 0.5 * px_per_mm)) * can.cover
    engrave(relief, label, (0, 0), 1.25, 0.14, linear("#3a3a38"), 0.75)
    return relief


def inductor(label: str, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A shielded power inductor: ferrite block, round core, glued gap."""
    relief = Relief(room_for(7.4, 7.4, 3.2), px_per_mm)
    for side in (-1.0, 1.0):
        leg = relief.box(side * 3.2, 0, 1.3, 3.0, 0.15)
        relief.lay(leg, SOLDER, 0.3 * leg.rounded_edge(0.3), metal=1.0)
    block = relief.box(0, 0, 6.6, 6.6, 0.9)
    relief.lay(block, linear("#3b3b3e"), 2.6 + 0.35 * block.rounded_edge(0.3), gloss=0.25)
    glue = relief.disc(0, 0, 2.75)
    relief.lay(glue, linear("#5b5444"), 2.55 + 0.06 * glue.rounded_edge(0.2), gloss=0.7)
    core = relief.disc(0, 0, 2.45)
    relief.lay(core, linear("#3f3f42"), 2.75 + 0.35 * core.rounded_edge(0.3), gloss=0.25)
    relief.speckle(rng, 0.10, 0.08)
    engrave(relief, label, (0, 0), 1.35, 0.16, linear("#c4c2b8"), 0.8)
    relief.roughen_metal(rng)
    return relief


def pin_header(columns: int, rows: int, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A straight pin header seen from above: bevelled cells with gilt square pins."""
    pitch = 2.54
    relief = Relief(room_for(columns * pitch, rows * pitch, 5.0), px_per_mm)
    for column in range(columns):
        for row in range(rows):
            x, y = (column - (columns - 1) / 2) * pitch, (row - (rows - 1) / 2) * pitch
            cell = relief.box(x, y, pitch + 0.02, pitch + 0.02, 0.0)
            chamfer = np.minimum(1.0, (pitch - np.abs(cell.x) - np.abs(cell.y)) / 0.25 + 0.35)
            cover = (np.abs(cell.x) + np.abs(cell.y) < pitch * 0.87).astype(np.float32)
            relief.lay(cell, BLACK_PLASTIC, np.asarray(2.2 + 0.3 * np.clip(chamfer, 0, 1), np.float32), cover=cover)
    relief.speckle(rng, 0.08, 0.07)
    for column in range(columns):
        for row in range(rows):
            x, y = (column - (columns - 1) / 2) * pitch, (row - (rows - 1) / 2) * pitch
            pin = relief.box(x, y, 0.66, 0.66, 0.05)
            relief.lay(pin, GOLD, 4.6 + 0.6 * np.clip(-pin.distance / 0.2, 0, 1), metal=1.0)
    return relief


def usb_socket(px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A micro-USB socket: drawn shell with latches, open towards the left."""
    relief = Relief(room_for(8.4, 9.8, 2.7), px_per_mm)
    for x in (-1.8, 2.0):
        for side in (-1.0, 1.0):
            tab = relief.box(x, side * 4.1, 1.5, 1.5, 0.5)
            relief.lay(tab, SOLDER, 0.45 * tab.rounded_edge(0.5), metal=1.0)
    shell = relief.box(0, 0, 7.4, 7.7, 0.35)
    relief.lay(shell, linear("#bfc2c4"), 2.1 + 0.55 * shell.rounded_edge(0.6), metal=1.0)
    window = (shell.rows, shell.columns)
    rolled = grain_noise((1, shell.x.shape[1]), rng, 0.06 * px_per_mm) * np.ones_like(shell.x)
    relief.height[window] += 0.003 * (rolled + 1.5 * grain_noise(shell.x.shape, rng, 0.8 * px_per_mm)) * shell.cover
    lip = relief.box(-3.55, 0, 0.5, 7.9, 0.15)
    relief.lay(lip, linear("#c6c8ca"), 2.2 + 0.55 * lip.rounded_edge(0.2), metal=1.0)
    for side in (-1.0, 1.0):
        slot = relief.box(-0.4, side * 2.1, 2.4, 0.85, 0.2)
        relief.lay(slot, linear("#2b2b2c"), 2.1, metal=0.3)
        tongue = relief.box(-0.2, side * 2.1, 1.9, 0.55, 0.1)
        relief.lay(tongue, ALUMINIUM, np.asarray(2.35 + 0.12 * tongue.x, np.float32), metal=1.0)
    seam = relief.box(1.6, 0, 3.4, 0.09, 0.0)
    relief.lay(seam, linear("#3a3a3a"), 2.45, metal=0.5)
    return relief


def terminal_block(ways: int, px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A screw terminal: plastic body, funnels with slotted screws, wire side at the bottom."""
    pitch = 5.08
    relief = Relief(room_for(ways * pitch, 8.4, 5.0), px_per_mm)
    plastic = linear("#1f5f9e")
    body = relief.box(0, 0, ways * pitch + 0.4, 8.2, 0.25)
    relief.lay(body, plastic, 4.6 + 0.4 * body.rounded_edge(0.35), gloss=0.55)
    step = relief.box(0, 3.2, ways * pitch + 0.4, 1.8, 0.15)
    relief.lay(step, plastic, 3.2 + 0.2 * step.rounded_edge(0.2), gloss=0.55)
    for way in range(ways):
        _lay_screw_funnel(relief, (way - (ways - 1) / 2) * pitch, -0.7, float(rng.uniform(0, np.pi)))
    for way in range(1, ways):
        groove = relief.box((way - ways / 2) * pitch, 0, 0.14, 8.0, 0.05)
        relief.lay(groove, plastic * 0.7, 4.5, gloss=0.3)
    relief.speckle(rng, 0.05, 0.15)
    return relief


def _lay_screw_funnel(relief: Relief, x: float, y: float, slot_angle: float) -> None:
    funnel = relief.disc(x, y, 2.05)
    depth = 5.0 - 0.8 * np.clip(-funnel.distance / 0.35, 0, 1)
    relief.lay(funnel, linear("#1a4f86"), np.asarray(depth, np.float32), gloss=0.4)
    screw = relief.disc(x, y, 1.62)
    relief.lay(screw, linear("#b9b8b2"), 4.0 + 0.35 * screw.rounded_edge(0.35), metal=1.0)
    across = np.abs(screw.x * np.sin(slot_angle) - screw.y * np.cos(slot_angle))
    slot = (across < 0.24).astype(np.float32)
    relief.lay(screw, linear("#6b6a66"), 3.85, metal=0.9, cover=slot)


def push_button(px_per_mm: float, rng: np.random.Generator) -> Relief:
    """A tactile switch: metal plate with four rivets, black plunger."""
    relief = Relief(room_for(8.6, 6.6, 4.0), px_per_mm)
    for side in (-1.0, 1.0):
        for y in (-2.25, 2.25):
            leg = relief.box(side * 3.6, y, 1.5, 0.8, 0.2)
            relief.lay(leg, SOLDER, 0.3 * leg.rounded_edge(0.3), metal=1.0)
    base = relief.box(0, 0, 6.2, 6.2, 0.3)
    relief.lay(base, BLACK_PLASTIC, 2.6 + 0.3 * base.rounded_edge(0.2), gloss=0.4)
    plate = relief.box(0, 0, 5.7, 5.7, 0.5)
    relief.lay(plate, linear("#bdbdb8"), 3.1 + 0.08 * plate.rounded_edge(0.12), metal=1.0)
    for x in (-2.15, 2.15):
        for y in (-2.15, 2.15):
            rivet = relief.disc(x, y, 0.42)
            relief.lay(rivet, linear("#3c3c3c"), 3.15 + 0.18 * rivet.rounded_edge(0.25), gloss=0.6)
    ring = relief.disc(0, 0, 1.85)
    relief.lay(ring, linear("#4b4b49"), 2.9, metal=0.4)
    plunger = relief.disc(0, 0, 1.7)
    relief.lay(plunger, linear("#26262a"), 3.9 + 0.35 * plunger.rounded_edge(0.4), gloss=0.6)
    relief.roughen_metal(rng, 0.004, 0.3)
    return relief
