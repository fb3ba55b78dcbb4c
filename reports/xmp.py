"""The XMP packet of everything this product paints: what it is, how it came about, which regions are generated.

`Iptc4xmpExt:DigitalSourceType` uses the IPTC NewsCodes `digitalsourcetype`. Only a trained model makes
`compositeWithTrainedAlgorithmicMedia`; a twin pasted or inpainted by classical methods is `compositeSynthetic`,
and a picture with drawings but nothing generated is `composite`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from inspector.clock import to_rfc3339
from inspector.errors import ImageUnsupportedError
from inspector.records import BoxPx

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "insp": "https://line-inspector.example/ns/evidence/1.0/",
}
JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_KEYWORD = b"XML:com.adobe.xmp\x00\x00\x00\x00\x00"
JPEG_MARKER = b"http://ns.adobe.com/xap/1.0/\x00"
MAX_PACKET_BYTES = 65_000
MAX_TEXT = 2000


@dataclass(frozen=True, slots=True)
class PictureOrigin:
    """Where a picture comes from. `twin_method` is None when nothing in it is generated."""

    title: str
    kind: str
    """`visual`, `twin`, `thumbnail` or `exposure`."""
    created_utc_us: int
    software: str
    inspection_id: str | None = None
    frame_sha256: str | None = None
    part_id: str | None = None
    twin_method: str | None = None
    twin_fallback: str | None = None
    """Why the twin was painted without the recipe's references or its peel."""
    twin_peel: str | None = None
    """The peel that the repair net was bent by."""
    generated_regions: tuple[BoxPx, ...] = ()
    """xyxy in frame pixels."""


def choose_source_type(twin_method: str | None) -> str:
    """The IPTC digital source type for a twin method, as a URI."""
    if twin_method is None:
        return f"{SOURCE_TYPES}composite"
    return f"{SOURCE_TYPES}{'compositeWithTrainedAlgorithmicMedia' if twin_method == 'net' else 'compositeSynthetic'}"


def write_packet(origin: PictureOrigin) -> bytes:
    """The XMP packet as UTF-8."""
    simple = {
        "xmp:CreatorTool": origin.software,
        "xmp:CreateDate": to_rfc3339(origin.created_utc_us),
        "Iptc4xmpExt:DigitalSourceType": choose_source_type(origin.twin_method),
        "insp:kind": origin.kind,
        "insp:generated": "true" if origin.twin_method is not None else "false",
        "insp:twinMethod": origin.twin_method,
        "insp:twinFallback": origin.twin_fallback,
        "insp:twinPeel": origin.twin_peel,
        "insp:inspectionId": origin.inspection_id,
        "insp:frameSha256": origin.frame_sha256,
        "insp:partId": origin.part_id,
    }
    namespaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    values = " ".join(f"{key}={quoteattr(_clean(value))}" for key, value in simple.items() if value is not None)
    regions = "".join(f"<rdf:li>{' '.join(str(edge) for edge in box)}</rdf:li>" for box in origin.generated_regions)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {namespaces} {values}>'
        f'<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{escape(_clean(origin.title))}</rdf:li></rdf:Alt></dc:title>'
        f"<insp:generatedRegions><rdf:Seq>{regions}</rdf:Seq></insp:generatedRegions>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def embed_packet(picture: bytes, packet: bytes) -> bytes:
    """The same JPEG or PNG with the packet right after its header; no pixel is touched.

    Raises `ImageUnsupportedError` for anything else.
    """
    if picture[:2] == JPEG_START:
        return _embed_in_jpeg(picture, packet)
    if picture[: len(PNG_START)] == PNG_START:
        return _embed_in_png(picture, packet)
    raise ImageUnsupportedError("XMP is embedded in JPEG and PNG only")


def _embed_in_jpeg(jpeg: bytes, packet: bytes) -> bytes:
    """An APP1 segment, behind the JFIF header where there is one (XMP specification, part 3)."""
    if len(packet) > MAX_PACKET_BYTES:
        raise ValueError(f"XMP packet of {len(packet)} bytes does not fit one JPEG segment")
    at = 2
    if jpeg[2:4] == b"\xff\xe0":
        at += 2 + int(struct.unpack_from(">H", jpeg, 4)[0])
    segment = JPEG_MARKER + packet
    return jpeg[:at] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[at:]


def _embed_in_png(png: bytes, packet: bytes) -> bytes:
    """An uncompressed iTXt chunk behind IHDR (XMP specification, part 3)."""
    chunk = b"iTXt" + PNG_KEYWORD + packet
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    at = len(PNG_START) + 25
    return png[:at] + framed + png[at:]


def read_packet(packet: bytes) -> dict[str, str]:
    """The simple values of a packet this module wrote, by prefixed name, and `insp:generatedRegions`.

    Raises `ValueError` when it is not XML of this shape.
    """
    try:
        root = ElementTree.fromstring(packet.decode("utf-8"))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"not an XMP packet: {error}") from error
    description = root.find(f".//{{{NAMESPACES['rdf']}}}Description")
    if description is None:
        raise ValueError("the XMP packet has no rdf:Description")
    prefixes = {uri: prefix for prefix, uri in NAMESPACES.items()}
    values = {}
    for key, value in description.attrib.items():
        uri, _, name = key[1:].partition("}")
        values[f"{prefixes.get(uri, uri)}:{name}"] = value
    found = description.iterfind(f"{{{NAMESPACES['insp']}}}generatedRegions//{{{NAMESPACES['rdf']}}}li")
    values["insp:generatedRegions"] = "; ".join(item.text or "" for item in found)
    return values


def _clean(value: str) -> str:
    """Without what XML 1.0 cannot carry; bounded."""
    kept = (
        c for c in value[:MAX_TEXT] if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
    )
    return "".join(kept)
