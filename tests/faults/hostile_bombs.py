"""Files that are small on the disk and huge in memory."""

import gzip
import io
import json
import struct
import zipfile
import zlib
from functools import cache
from random import Random

from faults.hostile_damage import truncated
from faults.hostile_headers import chunks_of, from_chunks
from faults.hostile_originals import Files, Originals

HUGE = 3 * 2**30
"""Bytes that a bomb unpacks to."""


@cache
def zeros(size: int, window: int) -> bytes:
    """So many zeros, deflated; `window` as zlib counts it: 31 for gzip, 15 for zlib, -15 for neither.

    Nobody packs gigabytes for that: a block of a megabyte, flushed so that it stands by itself, is repeated.
    The checksum behind them is wrong, as if anybody got that far.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    first = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    other = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + other * (size // 2**20 - 1) + packer.flush()


def gzipped(random: Random, originals: Originals) -> Files:
    """A scan, then gigabytes of zeros; gzip in gzip; thousands of empty members; a scan as huge as said."""
    scan = originals.images["NIfTI"][1]["labels.nii"]
    choice = random.randrange(6)
    if choice == 0:
        return {"scan.nii.gz": gzip.compress(scan) + zeros(HUGE, 31)}
    if choice == 1:
        return {"scan.nii.gz": gzip.compress(zeros(HUGE, 31))}
    if choice == 2:
        for _ in range(random.choice((2, 20))):
            scan = gzip.compress(scan)
        return {"scan.nii.gz": scan}
    if choice == 3:
        return {"scan.nii.gz": gzip.compress(b"") * 50_000 + gzip.compress(scan)}
    if choice == 4:
        side = random.choice((1400, 20_000, 32_767))
        huge = scan[:40] + struct.pack("<8h", 3, side, side, side, 1, 1, 1, 1) + scan[56:]
        return {"scan.nii.gz": gzip.compress(huge) + zeros(HUGE, 31)}
    return {"scan.nii": gzip.compress(scan[:352]) + zeros(HUGE, 31)}


def picture(random: Random, originals: Originals) -> Files:
    """PNG, TIFF or JPEG of a hundred megapixels and more, and texts that unpack to gigabytes."""
    choice = random.randrange(7)
    chunks = chunks_of(originals.images["PNG"][0]["grey.png"])
    if choice < 2:
        side = random.choice((20_000, 60_000, 2**31 - 1))
        head = struct.pack(">II", side, side) + chunks[0][1][8:]
        return {"scan.png": from_chunks([(b"IHDR", head), (b"IDAT", zeros(HUGE, 15)), (b"IEND", b"")])}
    if choice == 2:
        name, start = random.choice(((b"zTXt", b"x\0\0"), (b"iTXt", b"x\0\1\0\0\0"), (b"iCCP", b"x\0\0")))
        return {"scan.png": from_chunks([chunks[0], (name, start + zeros(HUGE, 15)), *chunks[1:]])}
    if choice == 3:
        content = originals.images["JPEG"][0]["scan.jpg"]
        at = content.index(b"\xff\xc0") + 5
        return {"scan.jpg": content[:at] + b"\xff\xdc\xff\xdc" + content[at + 4 :]}
    side = random.choice((15_000, 60_000, 2**31))
    if choice == 4:
        return {"scan.tif": _tiff([(side, side)], zeros(HUGE, 15))}
    if choice == 5:
        return {"scan.tif": _tiff([(1000, 1000)] * 3000, zeros(2**20, 15))}
    return {"scan.tif": _tiff([(8, 9)] * 60_000, zlib.compress(bytes(72)))}


def _tiff(sizes: list[tuple[int, int]], strip: bytes) -> bytes:
    """Pages of these sizes, all with the same deflated strip."""
    header = struct.pack("<2sHI", b"II", 42, 8 + len(strip))
    pages, at = [], 8 + len(strip)
    for index, (width, height) in enumerate(sizes):
        tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (273, 8), (277, 1)]
        tags += [(278, height), (279, len(strip))]
        at += 6 + 12 * len(tags)
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        following = 0 if index == len(sizes) - 1 else at
        pages.append(struct.pack("<H", len(tags)) + entries + struct.pack("<I", following))
    return header + strip + b"".join(pages)


def packed_itk(random: Random, originals: Originals) -> Files:
    """NRRD and MetaImage whose packed voxels are gigabytes, as said in the header or beyond it."""
    sizes = random.choice(((9, 8, 4), (1500, 1500, 1400), (30_000, 30_000, 3)))
    text = " ".join(map(str, sizes))
    if random.random() < 0.5:
        header = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: {text}\nencoding: gzip\n\n"
        return {"scan.nrrd": header.encode() + zeros(HUGE, 31)}
    voxels = zeros(HUGE, 15)
    header = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nDimSize = {text}\n"
    header += f"CompressedDataSize = {len(voxels)}\nElementType = MET_UCHAR\nElementDataFile = "
    if random.random() < 0.5:
        return {"scan.mha": f"{header}LOCAL\n".encode() + voxels}
    return {"scan.mhd": f"{header}scan.zraw\n".encode(), "scan.zraw": voxels}


def array(random: Random, originals: Originals) -> Files:
    """An `.npz` whose entry unpacks to gigabytes, as its header says or beyond it, or to another zip."""
    shape = random.choice(("(9, 8, 4)", "(1500, 1500, 1400)", "(30000, 30000)"))
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    entry = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    name = random.choice(("one.npy", "probabilities.npy"))
    stream = io.BytesIO()
    if random.random() < 0.2:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, originals.images["NumPy"][2]["one.npz"])
        return {"scan.npz": stream.getvalue()}
    # A stored block, then the zeros, as one deflated stream under headers that state what it unpacks to.
    data = b"\0" + struct.pack("<HH", len(entry), len(entry) ^ 0xFFFF) + entry + zeros(HUGE, -15)
    stated = struct.pack("<I", random.choice((HUGE + len(entry), len(entry) + 288)) % 2**32)
    fields = struct.pack("<HHHHHII", 20, 0, 8, 0, 0, 0, len(data)) + stated + struct.pack("<HH", len(name), 0)
    local = b"PK\3\4" + fields + name.encode()
    central = b"PK\1\2\x14\0" + fields + bytes(14) + name.encode()
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local) + len(data), 0)
    return {"scan.npz": local + data + central + end}


def checkpoint(random: Random, originals: Originals) -> Files:
    """A checkpoint of a network far larger than its file."""
    many = [random.choice((10**5, 10**9))] * 3
    config = {"dimensions": 2, "labels": ["a"], "spacing": [1, 1], "patch_size": [16, 16], "channels": many}
    if random.random() < 0.5:
        config |= {"channels": [2] * 3, "labels": [str(label) for label in range(200_000)]}
    if random.random() < 0.3:
        config |= {"channels": [2] * 5000, "labels": ["a"]}
    header = {"__metadata__": {"topofix": json.dumps({"config": config, "about": {}})}}
    header |= {"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    return {"model.safetensors": len(text).to_bytes(8, "little") + text + b"\0\0"}


def slow(random: Random, originals: Originals) -> Files:
    """A bomb that is damaged as well."""
    files = random.choice((gzipped, picture, packed_itk, array))(random, originals)
    name, content = next(iter(files.items()))
    return {**files, name: truncated(random, content)}


BOMBS = {
    "gzip": gzipped,
    "picture": picture,
    "packed voxels": packed_itk,
    "zip": array,
    "network": checkpoint,
    "truncated": slow,
}
"""Bombs by name."""
