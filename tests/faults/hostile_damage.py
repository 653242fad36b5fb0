"""Damage that knows nothing of formats: bytes cut off, flipped, overwritten, doubled, taken out."""

import math
import struct
from random import Random

WHOLE = (
    0,
    1,
    2,
    3,
    7,
    127,
    255,
    256,
    32767,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    -1,
    -(2**15),
)
"""Whole numbers at the edges of types; negative and too large ones are cut down to the type."""

REAL = (0.0, -0.0, -1.0, 0.5, 1e-45, 1e38, -1e38, 1e300, math.nan, math.inf, -math.inf)


def number(random: Random, form: str) -> bytes:
    """A number that a header does not expect, packed as `struct` says: one of WHOLE or REAL."""
    if form[-1] in "fd":
        value = random.choice(REAL)
        limit = 3.4e38 if form[-1] == "f" else math.inf
        return struct.pack(form, value if abs(value) < limit or not math.isfinite(value) else -limit)
    size = struct.calcsize(form)
    content = (random.choice(WHOLE) % 2 ** (8 * size)).to_bytes(size, "little")
    return content[::-1] if form[0] == ">" else content


def truncated(random: Random, content: bytes) -> bytes:
    """Without its end: more than any format puts behind what counts, up to all of it."""
    return content[: max(0, len(content) - random.choice((16, random.randrange(16, len(content) + 16))))]


def clipped(random: Random, content: bytes) -> bytes:
    """Without its last bytes, which may be of voxels, a checksum, or nothing that counts."""
    return content[: -random.randrange(1, 16)]


def flipped(random: Random, content: bytes) -> bytes:
    """With up to sixteen bits turned round, anywhere."""
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 4, 16))):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def flipped_early(random: Random, content: bytes) -> bytes:
    """The same within the first 400 bytes, where headers are."""
    return flipped(random, content[:400]) + content[400:]


def overwritten(random: Random, content: bytes) -> bytes:
    """With a stretch of zeros, of ones or of noise."""
    start = random.randrange(len(content))
    size = min(random.choice((1, 4, 16, 200)), len(content) - start)
    stretch = random.choice((bytes(size), b"\xff" * size, random.randbytes(size)))
    return content[:start] + stretch + content[start + size :]


def numbered(random: Random, content: bytes) -> bytes:
    """With an unexpected number at a place where there may have been another."""
    value = number(random, random.choice(("<h", "<i", "<q", ">h", ">i", ">q", "<f", "<d", ">f")))
    start = random.randrange(max(1, min(len(content), 600) - len(value)))
    return content[:start] + value + content[start + len(value) :]


def spliced(random: Random, content: bytes) -> bytes:
    """With a stretch taken out, doubled, or put somewhere else."""
    start, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
    stretch, rest = content[start:end], content[:start] + content[end:]
    place = random.randrange(len(rest) + 1)
    return random.choice(
        (rest, content[:end] + stretch + content[end:], rest[:place] + stretch + rest[place:])
    )


def followed(random: Random, content: bytes) -> bytes:
    """With something behind its end: noise, zeros, or itself."""
    return content + random.choice((random.randbytes(100), bytes(5000), content))


DAMAGE = {
    "truncated": truncated,
    "its last bytes lost": clipped,
    "bits flipped": flipped,
    "bits flipped in the header": flipped_early,
    "a stretch overwritten": overwritten,
    "a strange number in the header": numbered,
    "a stretch moved, doubled or lost": spliced,
    "more behind the end": followed,
}
"""How a file is damaged, by name."""
