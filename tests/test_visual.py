"""The painted visual: its text can be read, its marks are there, and it never alters what the camera saw."""

from __future__ import annotations

import io
import shutil
import unicodedata
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inspector.generator.inpaint import TeleaRepairer
from inspector.generator.paste import PasteRepairer
from inspector.generator.references import PlacedReferences, place_one
from inspector.generator.repairer import Twin
from inspector.images import decode_image
from inspector.records import BgrImage, BoxPx, Thresholds, VerdictKind
from reports.text import make_visible, measure_px, paint_text, shorten_middle, split_runs, wrap_text
from reports.text_fonts import FontSet
from reports.visual import encode_visual, paint_visual, render_visual
from reports.visual_facts import VisualFacts, VisualRegion
from reports.visual_layout import plan_visual
from reports.visual_plan import PlannedText, VisualPlan
from reports.visual_thumbnail import MAX_THUMBNAIL_BYTES, render_thumbnail
from reports.xmp import read_packet

HEX = "0123456789abcdef-"
needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")


@pytest.fixture(scope="module")
def fonts() -> FontSet:
    return FontSet()


@pytest.fixture(autouse=True)
def one_thread_for_tesseract(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads wait for each other longer than they work."""
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")


def make_facts(boxes: list[BoxPx], **changes: object) -> VisualFacts:
    facts = VisualFacts(
        inspection_id="3f2a9c1e-7b64-5d0a-9e1f-2c7d8a5b6e40",
        verdict=VerdictKind.NG,
        score=0.873,
        thresholds=Thresholds(0.41, 0.62),
        station="berlin/line-2/press-04",
        camera="top",
        decided_utc_us=1_777_700_000_000_000,
        timezone="Europe/Berlin",
        recipe="board@3",
        part_id="SN-2024-000731",
        lot="L-4471",
        regions=tuple(VisualRegion(box, 0.87 - 0.1 * index, "scratch") for index, box in enumerate(boxes)),
        frame_sha256="ab" * 32,
        software_version="0.1.0",
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def draw_frame(width: int, height: int) -> BgrImage:
    """A grey part with a gradient and some shapes."""
    columns = np.linspace(60, 150, width, dtype=np.float32)[None, :, None]
    frame = np.ascontiguousarray(np.broadcast_to(columns, (height, width, 3)).astype(np.uint8))
    cv2.circle(frame, (width // 3, height // 3), max(2, min(width, height) // 6), (60, 140, 90), -1)
    return frame


def place(image: BgrImage) -> PlacedReferences:
    """A good image that lies in the frame as it is."""
    return place_one(image, np.eye(2, 3), (image.shape[1], image.shape[0]), 1.0)


def make_twin(frame: BgrImage, boxes: list[BoxPx]) -> Twin:
    mask = np.zeros(frame.shape[:2], np.bool_)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return PasteRepairer().repair(frame, mask, place(np.asarray(np.roll(frame, 3, axis=1))))


# --- text -------------------------------------------------------------------------------------------


def cut_text(picture: BgrImage, text: PlannedText, height: int = 48) -> NDArray[np.uint8]:
    """The planned text as black on white at a height that tesseract likes."""
    x0, y0, x1, y1 = text.box
    grey = cv2.cvtColor(np.ascontiguousarray(picture[y0:y1, x0:x1]), cv2.COLOR_BGR2GRAY)
    if sum(text.background) < sum(text.colour):
        grey = cv2.bitwise_not(grey)
    grey = cv2.normalize(grey, np.empty_like(grey), 0, 255, cv2.NORM_MINMAX)
    scale = height / grey.shape[0]
    size = (max(1, round(grey.shape[1] * scale)), height)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def read_lines(picture: BgrImage, texts: list[PlannedText]) -> list[str]:
    """What tesseract reads in the boxes of some texts, one below the other."""
    import pytesseract

    cuts = [cut_text(picture, text) for text in texts]
    sheet = np.full((80 * len(cuts) + 160, max(cut.shape[1] for cut in cuts) + 80), 255, np.uint8)
    for row, cut in enumerate(cuts):
        sheet[80 + 80 * row : 128 + 80 * row, 40 : 40 + cut.shape[1]] = cut
    read = pytesseract.image_to_string(sheet, config="--psm 6")
    return [line for line in read.splitlines() if line.strip()]


def read_one(picture: BgrImage, text: PlannedText, alphabet: str, height: int = 48) -> str:
    """One text alone; a single digit is read at 32 px, at 48 tesseract takes its stroke for a picture."""
    import pytesseract

    cut = cv2.copyMakeBorder(cut_text(picture, text, height), 24, 24, 24, 24, cv2.BORDER_CONSTANT, value=[255])
    return str(pytesseract.image_to_string(cut, config=f"--psm 7 -c tessedit_char_whitelist={alphabet}")).strip()


def squeeze(text: str) -> str:
    """Letters are what must be right; how wide a gap is, tesseract guesses."""
    return "".join(text.split())


@needs_tesseract
@pytest.mark.ocr
@pytest.mark.parametrize(
    ("size", "boxes", "changes"),
    [
        (
            (3840, 2160),
            [(1600, 900, 1840, 1120), (2150, 780, 2320, 960), (3500, 1900, 3600, 2000)],
            {"mm_per_px": 0.01},
        ),
        ((2000, 1334), [(820, 560, 960, 690)], {"verdict": VerdictKind.REVIEW, "score": 0.5}),
        ((550, 380), [(230, 150, 300, 230), (20, 20, 60, 60)], {"part_id": "PN-48-XKR", "lot": "LOT 2026/17"}),
        ((200, 300), [(40, 60, 62, 90)], {"attempt": 3, "purpose": "simulated", "reasons": ("frame is too dark",)}),
        ((1130, 460), [], {"verdict": VerdictKind.OK, "score": 0.12}),
    ],
    ids=["4k", "2000x1334", "550x380", "200x300", "1130x460"],
)
def test_tesseract_reads_every_word_back(
    size: tuple[int, int], boxes: list[BoxPx], changes: dict[str, object], fonts: FontSet
) -> None:
    """Verdict, score, ids, recipe, time, captions and notes are read from the stored JPEG without an error."""
    frame = draw_frame(*size)
    facts = make_facts(boxes, **changes)
    twin = make_twin(frame, boxes) if boxes else None
    picture = decode_image(render_visual(frame, twin, facts, fonts))
    plan = plan_visual(facts, size, twin.method if twin else None, fonts)

    words = [text for text in plan.texts if len(text.text) > 2 and text.name != "inspection_id"]
    assert [squeeze(line) for line in read_lines(picture, words)] == [squeeze(text.text) for text in words]
    for text in plan.texts:
        if text.name == "inspection_id":
            assert read_one(picture, text, HEX) == text.text
        elif text.name == "verdict_word":
            assert read_one(picture, text, "NGOKREVIW") == text.text
        elif len(text.text) <= 2:
            assert text.text.isdecimal(), "what else is that short, and who reads it?"
            assert read_one(picture, text, "0123456789", height=32) == text.text
    named = {text.name: text.text for text in plan.texts}
    assert named["part_id"] == facts.part_id
    assert named["recipe"] == "board@3"
    assert named["time"] == "2026-05-02 07:33:20 UTC+02:00"
    captions = [text.text for text in plan.texts if text.name.endswith("_caption")]
    assert captions == ["original", "twin (generated)", "difference"] * len(boxes)


@needs_tesseract
@pytest.mark.ocr
def test_the_whole_picture_is_readable_as_it_is(fonts: FontSet) -> None:
    """Given the stored picture and nothing else, tesseract finds what a manager looks for."""
    import pytesseract

    boxes = [(820, 560, 960, 690), (1120, 480, 1210, 600)]
    frame = draw_frame(2000, 1334)
    picture = decode_image(render_visual(frame, make_twin(frame, boxes), make_facts(boxes), fonts))
    read = " ".join(pytesseract.image_to_string(picture, config="--psm 11").split())
    for words in (
        "NG",
        "SN-2024-000731",
        "L-4471",
        "board@3",
        "Score 0.873",
        "original",
        "twin (generated)",
        "GENERATED",
    ):
        assert words in read


@pytest.mark.parametrize(
    "part_id",
    [
        "部品-日本語-42",
        "부품 한국어 7",
        "零件编号9",
        "قطعة ١٢",
        "חלק 3",
        "Деталь №5",
        "pièce n° 12 – Ö",
        "😀 ok",
        "e\u0301a\u0308",
    ],
)
def test_ids_of_many_scripts_are_shown_in_glyphs(part_id: str, fonts: FontSet) -> None:
    """Every character has a glyph in the face it is painted with, and it leaves ink: no empty boxes."""
    assert make_visible(part_id, fonts) == part_id
    for run in split_runs(part_id, fonts):
        for character in run.text:
            assert fonts.choose_face(character, bold=False) is not None
    missing = np.asarray(fonts.sized(split_runs("A", fonts)[0].face, 40).getmask("\U0010ffff", mode="L"))
    for run in split_runs(part_id, fonts):
        font = fonts.sized(run.face, 40)
        for character in run.text:
            if not character.isspace() and not unicodedata.combining(character):
                drawn = np.asarray(font.getmask(character, mode="L"))
                assert drawn.max() > 0
                assert drawn.shape != missing.shape or not np.array_equal(drawn, missing)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("A\U0001f680B", "A<U+1F680>B"),
        ("a\u202eb", "a<U+202E>b"),
        ("tab\tnul\x00", "tab<U+0009>nul<U+0000>"),
        ("x\u200by", "x<U+200B>y"),
        ("ไทย", "<U+0E44><U+0E17><U+0E22>"),
        ("\ud800", "<U+D800>"),
        ("\ue000\u3164", "<U+E000><U+3164>"),
        ("\u0301a", "<U+0301>a"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, shown: str, fonts: FontSet) -> None:
    """Unknown, invisible, control and direction-turning characters appear as their code points."""
    assert make_visible(text, fonts) == shown


def test_ink_stays_inside_the_measured_box(fonts: FontSet) -> None:
    """The measured width covers what is painted, for every script."""
    for text in ("WAVEfj", "部品日本", "قطعة", "Ångström g", "Q" * 30):
        width = measure_px(text, 30, fonts)
        wide = np.asarray(paint_text(text, (width + 60, 60), 30, (0, 0, 0), (255, 255, 255), fonts, False).convert("L"))
        inked = np.flatnonzero((wide < 128).any(axis=0))
        assert inked.max() < width


def test_shortening_keeps_both_ends_and_whole_characters(fonts: FontSet) -> None:
    """No accent and no escaped code point is torn, and the result fits."""
    text = "AB" + "e\u0301" * 40 + "\U0001f680" * 5 + "YZ"
    for limit in range(0, 600, 13):
        shown = shorten_middle(text, limit, 16, fonts)
        assert measure_px(shown, 16, fonts) <= limit
        assert "…\u0301" not in shown
        assert shown.count("<") == shown.count(">")
    assert shorten_middle("short", 500, 16, fonts) == "short"


def test_wrapping_breaks_at_spaces_and_ends_with_an_ellipsis(fonts: FontSet) -> None:
    """A long reason takes the lines it is given and says that it was cut."""
    lines = wrap_text("the light is too dark for this recipe and the part is turned", 150, 2, 14, fonts)
    assert len(lines) == 2
    assert lines[0] == "the light is too dark"
    assert "…" in lines[1]
    assert wrap_text("", 100, 2, 14, fonts) == []


# --- pictures ---------------------------------------------------------------------------------------


def test_the_frame_is_not_altered_and_the_part_shows_it(fonts: FontSet) -> None:
    """Painting reads the frame only; at full scale the original tile is the camera's picture."""
    frame = draw_frame(1600, 900)
    before = frame.copy()
    boxes = [(400, 300, 500, 380)]
    twin = make_twin(frame, boxes)
    painted = paint_visual(frame, twin, make_facts(boxes), fonts)
    x0, y0, x1, y1 = painted.plan.part
    shown = painted.pixels[y0:y1, x0:x1]
    expected = cv2.resize(frame, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    assert np.array_equal(frame, before)
    assert np.median(cv2.absdiff(shown, np.asarray(expected, np.uint8))) <= 1


def tile_pixels(painted_pixels: BgrImage, plan: VisualPlan, content: str) -> BgrImage:
    (tile,) = [tile for tile in plan.tiles if tile.content == content]
    x0, y0, x1, y1 = tile.picture
    return painted_pixels[y0:y1, x0:x1]


def test_tiles_show_original_twin_and_difference(fonts: FontSet) -> None:
    """A red spot is in the original tile, gone from the twin, and glows in the difference."""
    good = np.full((600, 900, 3), 120, np.uint8)
    frame = good.copy()
    box = (420, 280, 480, 320)
    frame[box[1] : box[3], box[0] : box[2]] = (20, 20, 230)
    mask = (frame != good).any(axis=2)
    twin = PasteRepairer().repair(frame, mask, place(good))
    painted = paint_visual(frame, twin, make_facts([box]), fonts)

    def centre(content: str) -> NDArray[np.uint8]:
        tile = tile_pixels(painted.pixels, painted.plan, content)
        return np.asarray(tile[tile.shape[0] // 2, tile.shape[1] // 2], np.uint8)

    assert np.abs(centre("original").astype(int) - (20, 20, 230)).max() <= 3
    assert np.abs(centre("twin").astype(int) - 120).max() <= 3
    difference = centre("difference").astype(int)
    assert difference[2] - difference[0] > 80


@pytest.mark.parametrize("level", [0, 40, 128, 200, 255])
@pytest.mark.parametrize("colour", [(0, 0, 1), (1, 1, 1)], ids=["red", "grey"])
def test_outlines_are_visible_on_any_background(level: int, colour: tuple[int, int, int], fonts: FontSet) -> None:
    """The two-coloured outline stands out by at least 3:1 somewhere, whatever it is drawn on."""
    frame = np.empty((720, 1280, 3), np.uint8)
    frame[:] = [channel * level for channel in colour]
    painted = paint_visual(frame, None, make_facts([(600, 300, 700, 400)]), fonts)
    outline = painted.plan.callouts[0].outline
    row = painted.pixels[(outline[1] + outline[3]) // 2, outline[2] - 2 : outline[2] + 12].astype(float) / 255
    linear = np.where(row <= 0.04045, row / 12.92, ((row + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.0722, 0.7152, 0.2126])
    background = np.array([channel * level for channel in colour]) / 255.0
    ground = float(
        np.where(background <= 0.04045, background / 12.92, ((background + 0.055) / 1.055) ** 2.4)
        @ np.array([0.0722, 0.7152, 0.2126])
    )
    ratios = [(max(value, ground) + 0.05) / (min(value, ground) + 0.05) for value in luminance]
    assert max(ratios) >= 3.0


def test_everything_generated_is_marked_in_the_pixels(fonts: FontSet) -> None:
    """The word stands on the twin and on the difference, white on black, and on no original."""
    frame, box = draw_frame(1280, 720), (600, 300, 700, 400)
    painted = paint_visual(frame, make_twin(frame, [box]), make_facts([box]), fonts)
    marks = [item for item in painted.plan.boxes if item.name.endswith("_mark")]
    assert [mark.name for mark in marks] == ["region_1_twin_mark", "region_1_difference_mark"]
    for mark in marks:
        x0, y0, x1, y1 = mark.box
        grey = painted.pixels[y0:y1, x0:x1].mean(axis=2)
        assert 0.08 < (grey > 200).mean() < 0.5
        assert (grey < 60).mean() > 0.4


@pytest.mark.parametrize("size", [(1280, 720), (300, 200), (17, 11), (2000, 60), (60, 900)])
@pytest.mark.parametrize("box", ["pixel", "frame", "corner"])
def test_extreme_regions_are_painted(size: tuple[int, int], box: str, fonts: FontSet) -> None:
    """One pixel, the whole frame, the last corner: each gives a complete picture."""
    width, height = size
    boxes: dict[str, BoxPx] = {
        "pixel": (width // 2, height // 2, width // 2 + 1, height // 2 + 1),
        "frame": (0, 0, width, height),
        "corner": (width - min(width, 9), height - min(height, 9), width, height),
    }
    frame = draw_frame(width, height)
    facts = make_facts([boxes[box]])
    picture = decode_image(render_visual(frame, make_twin(frame, [boxes[box]]), facts, fonts))
    plan = plan_visual(facts, size, "paste", fonts)
    assert picture.shape == (plan.height_px, plan.width_px, 3)


def test_a_twin_of_another_size_is_refused(fonts: FontSet) -> None:
    """A twin that does not belong to the frame would explain the wrong part."""
    frame = draw_frame(640, 480)
    twin = make_twin(draw_frame(320, 240), [(10, 10, 20, 20)])
    with pytest.raises(ValueError, match="twin"):
        paint_visual(frame, twin, make_facts([(10, 10, 20, 20)]), fonts)


# --- metadata ---------------------------------------------------------------------------------------


def read_xmp(jpeg: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(jpeg)) as image:
        return read_packet(image.info["xmp"])


def test_the_metadata_says_what_is_generated(fonts: FontSet) -> None:
    """XMP carries the IPTC source type, the twin's method, the regions and the frame's hash."""
    frame, box = draw_frame(1280, 720), (600, 300, 700, 400)
    facts = make_facts([box], part_id='<&"\x00部品')
    values = read_xmp(render_visual(frame, make_twin(frame, [box]), facts, fonts))
    assert values["Iptc4xmpExt:DigitalSourceType"].endswith("/digitalsourcetype/compositeSynthetic")
    assert values["insp:twinMethod"] == "paste"
    assert values["insp:generated"] == "true"
    assert values["insp:generatedRegions"] == "600 300 700 400"
    assert values["insp:inspectionId"] == facts.inspection_id
    assert values["insp:frameSha256"] == "ab" * 32
    assert values["insp:partId"] == '<&"部品'


def test_a_trained_model_and_no_model_are_told_apart(fonts: FontSet) -> None:
    """`net` is trained algorithmic media; without a twin nothing is called generated."""
    frame, box = draw_frame(320, 240), (60, 30, 70, 40)
    by_telea = TeleaRepairer().repair(frame, make_twin(frame, [box]).mask, None)
    by_net = Twin(by_telea.pixels, by_telea.mask, "net", 1)
    painted = paint_visual(frame, by_net, make_facts([box]), fonts)
    trained = read_xmp(encode_visual(painted, by_net, make_facts([box])))
    plain = read_xmp(render_visual(frame, None, make_facts([box]), fonts))
    assert trained["Iptc4xmpExt:DigitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert plain["Iptc4xmpExt:DigitalSourceType"].endswith("/composite")
    assert plain["insp:generated"] == "false"
    assert "insp:twinMethod" not in plain


@pytest.mark.parametrize("size", [(3840, 2160), (300, 200), (60, 2000), (2000, 40)])
def test_thumbnails_fit_a_message(size: tuple[int, int], fonts: FontSet) -> None:
    """At most 32 KB even for noise, which compresses worst, with metadata, and nothing generated inside."""
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    facts = make_facts([(1, 1, 20, 20), (25, 5, 40, 30)], part_id="部" * 3000)
    thumbnail = render_thumbnail(paint_visual(frame, None, facts, fonts), facts, fonts)
    assert len(thumbnail) <= MAX_THUMBNAIL_BYTES
    assert decode_image(thumbnail).shape[1] == 480
    assert read_xmp(thumbnail)["insp:generated"] == "false"
