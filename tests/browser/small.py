"""Pictures as small as they look: a page has few colours, so a palette of 256 holds all that an eye tells apart.

The browser that made the picture counts its colours, too: it is quick at it, and no library of ours is needed.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Final

from playwright.async_api import Page

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
BY_COLOUR: Final = """
async (picture) => {
  const image = new Image();
  image.src = "data:image/png;base64," + picture;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
  const counts = new Map();
  for (const each of pixels) counts.set(each, (counts.get(each) || 0) + 1);
  const part = (colour, at) => (colour >> (8 * at)) & 255;
  const far = (one, other) => [0, 1, 2].reduce((sum, at) => sum + (part(one, at) - part(other, at)) ** 2, 0);
  const frequent = [...counts].sort((one, other) => other[1] - one[1]).map(([colour]) => colour);
  const palette = []; // half of it far from each other, so that a small patch keeps its colour; then the most frequent
  for (const colour of frequent) {
    if (palette.length < 128 && palette.every((each) => far(each, colour) > 600)) palette.push(colour);
  }
  for (const colour of frequent) if (palette.length < 256 && !palette.includes(colour)) palette.push(colour);
  const place = new Map(palette.map((colour, at) => [colour, at]));
  for (const colour of counts.keys()) {
    if (place.has(colour)) continue;
    let best = 0;
    for (let at = 1; at < palette.length; at++) if (far(colour, palette[at]) < far(colour, palette[best])) best = at;
    place.set(colour, best);
  }
  const told = Uint8Array.from(pixels, (each) => place.get(each));
  let text = "";
  for (let at = 0; at < told.length; at += 32768) text += String.fromCharCode(...told.subarray(at, at + 32768));
  return { width: image.width, height: image.height, pixels: btoa(text),
           palette: palette.map((colour) => [part(colour, 0), part(colour, 1), part(colour, 2)]) };
}
"""


async def smaller(blank: Page, picture: bytes) -> bytes:
    """The same picture as a PNG with a palette. `blank`: a page to reckon in."""
    found = await blank.evaluate(BY_COLOUR, base64.b64encode(picture).decode())
    width, height = found["width"], found["height"]
    pixels = base64.b64decode(found["pixels"])
    rows = b"".join(b"\0" + pixels[at * width : (at + 1) * width] for at in range(height))
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(part for colour in found["palette"] for part in colour)),
            _chunk(b"IDAT", zlib.compress(rows, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
