"""Tables and descriptions that were damaged, or written to hurt: CSV, TOML and JSON."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

from faults.hostile_damage import DAMAGE
from faults.hostile_originals import Originals

PRIORS = """case,slice,frame,label,b0,b1
labels,*,*,1,1,1
labels,0-2,*,1,1-3,*
labels,3,0,2,0,0
other,*,,1+2,1,0
"""

CONSTRAINTS = """# a heart
[[constraint]]
region = "1"
betti = "1,1"
weight = 2.0

[[constraint]]
region = [1, 2]
betti = [1, "0-2"]
weights = [1.0, 0.5]
"""

CASES = """image,label,split,spacing
a.png,a_mask.png,train,1.4x1.4
b.png,b_mask.png,validation,1.4x1.4
c.png,,train,
"""

LIST = """image,probabilities,output,slice,label,b0,b1
a.png,,site1/a.png,,1,1,1
b.png,,,,1,1,0
,a.png,site2/b.nii.gz,,1,1,1
"""

DESCRIPTION = """weights = "weights.safetensors"
dimensions = 2
labels = ["wall", "cavity"]
patch_size = [16, 16]
spacing = [1.0, 1.0]
[network]
name = "DynUNet"
spatial_dims = 2
in_channels = 1
out_channels = 3
kernel_size = [3, 3, 3]
strides = [1, 2, 2]
upsample_kernel_size = [2, 2]
filters = [2, 2, 2]
norm_name = "batch"
"""

NAMES = {"name": "x", "labels": {"background": 0, "wall": 1, "cavity": 2}, "numTraining": 2}

WORDS = (
    *(
        "",
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "-inf",
        "9" * 30,
        "9" * 5000,
        "1.5",
        "1-0",
        "0-",
        "-",
        "*",
        "1-999999999",
    ),
    *(
        "0-999999999",
        "999999999",
        "true",
        "null",
        "'",
        '"',
        '"""',
        "'''",
        "[",
        "]",
        "{",
        "}",
        "[[",
        "=",
        "=cmd()",
    ),
    *(
        "#",
        ",",
        ",,,,",
        ";",
        ":",
        "::",
        "+",
        "1+",
        "+1",
        "1+1+1",
        "\\",
        "\\u0000",
        "\0",
        "\n",
        "\r",
        "\t",
        "\u202e",
    ),
    *(
        "\ufeff",
        "\u0663",
        "\uff11",
        "é",
        "x" * 200_000,
        "absent",
        "foreground",
        "../../../etc/passwd",
        "/etc/passwd",
    ),
    *(
        "/dev/zero",
        "%s",
        "{}",
        "<script>alert(1)</script>",
        "$(touch evil)",
        "1979-05-27",
        "0x10",
        "1_0",
        "a.b.c",
    ),
    *(
        "monai.networks",
        "__class__",
        "os.system",
        "Path",
        "nan,nan",
        "1.4x1.4x1.4x1.4",
        "0x0",
        "nanxinf",
        "pipe.png",
    ),
)
"""What may stand where something else was meant."""


def disturbed(random: Random, text: str) -> bytes:
    """A text with words replaced, lines doubled or lost, its encoding broken, or its values nested."""
    for _ in range(random.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        line = random.randrange(len(lines))
        choice = random.randrange(10)
        if choice < 6:
            words = list(re.finditer(r"[\w.*+-]+|[^\w\s]", text)) or [re.match("", text)]
            place = random.choice(words)
            text = text[: place.start()] + random.choice(WORDS) + text[place.end() :]
        elif choice == 6:
            text = "\n".join(lines[:line] + lines[line + 1 :])
        elif choice == 7:
            text = "\n".join([*lines[: line + 1], *lines[line:] * random.choice((1, 1, 300))])
        elif choice == 8:
            text = random.choice((text.upper(), text.replace("\n", "\r"), text * 2, text[::-1]))
        else:
            depth = random.choice((50, 5000, 100_000))
            text = text.replace(
                random.choice("1[\"'"), random.choice(("[", "{", "(", '{"a":', "a.")) * depth, 1
            )
    content = text.encode("utf-8", "surrogatepass")
    choice = random.randrange(8)
    if choice == 0:
        return random.choice(list(DAMAGE.values()))(random, content or b"x")
    if choice == 1:
        return content.decode("utf-8", "replace").encode(
            random.choice(("utf-16", "utf-32", "utf-8-sig", "cp500")), "replace"
        )
    return content


def prior_table(random: Random, folder: Path, originals: Originals) -> Path:
    """A prior CSV."""
    return _written(folder / "priors.csv", disturbed(random, PRIORS))


def prior_file(random: Random, folder: Path, originals: Originals) -> Path:
    """A prior TOML."""
    return _written(folder / "heart.toml", disturbed(random, CONSTRAINTS))


def many_rows(random: Random, folder: Path, originals: Originals) -> Path:
    """A prior CSV of thousands of rows that all speak of one case, or of as many columns."""
    choice = random.randrange(4)
    rows = [f"labels,{k}-{k + 5000},*,{k % 7 + 1},1,{k % 2}" for k in range(3000)]
    if choice == 1:
        rows = [
            f"labels,{k},{k},{'+'.join(str(1 + (k * j) % 99) for j in range(30))},1,*" for k in range(2000)
        ]
    elif choice == 2:
        rows = ["," * 100_000] * 5
    elif choice == 3:
        rows = [f"labels,*,*,{k + 1}+{k + 2},1-9,0-" for k in range(1000)]
    return _written(folder / "priors.csv", "\n".join([PRIORS.split("\n")[0], *rows]).encode())


def many_constraints(random: Random, folder: Path, originals: Originals) -> Path:
    """A prior TOML of hundreds of constraints, each a union of many labels."""
    count = random.choice((60, 64, 65, 100, 500))
    tables = (
        f'[[constraint]]\nregion = {sorted({1 + (k * j) % 97 for j in range(1, 20)})}\nbetti = [1, "0-9"]\n'
        for k in range(1, count)
    )
    return _written(folder / "heart.toml", "\n".join(tables).encode())


def description(random: Random, folder: Path, originals: Originals) -> Path:
    """The TOML of somebody else's network, beside its weights."""
    (folder / "weights.safetensors").write_bytes(originals.bare)
    return _written(folder / "their.toml", disturbed(random, DESCRIPTION))


def huge_network(random: Random, folder: Path, originals: Originals) -> Path:
    """The TOML of a network that no memory holds, or that needs what nobody has."""
    (folder / "weights.safetensors").write_bytes(originals.bare)
    old, new = random.choice(
        (
            ("filters = [2, 2, 2]", "filters = [200000, 200000, 200000]"),
            ("out_channels = 3", "out_channels = 999999999"),
            ("in_channels = 1", "in_channels = 99999999999999999999"),
            ("kernel_size = [3, 3, 3]", "kernel_size = [99999, 99999, 99999]"),
            ("patch_size = [16, 16]", "patch_size = [1000000, 1000000]"),
            ("patch_size = [16, 16]", "patch_size = [16, 9223372036854775807]"),
            ("strides = [1, 2, 2]", "strides = [1, 99999, 99999]"),
            ("labels = [", "labels = [" + ", ".join(f'"{k}"' for k in range(100_000)) + ", "),
            ('norm_name = "batch"', 'norm_name = "batch"\ndropout = "lies"'),
            ('name = "DynUNet"', 'name = "__builtins__"'),
            ('name = "DynUNet"', 'name = "SwinUNETR"'),
            ('weights = "weights.safetensors"', 'weights = "/dev/zero.safetensors"'),
            ('weights = "weights.safetensors"', 'weights = "pipe.safetensors"'),
        )
    )
    os.mkfifo(folder / "pipe.safetensors")
    return _written(folder / "their.toml", DESCRIPTION.replace(old, new).encode())


def case_table(random: Random, folder: Path, originals: Originals) -> Path:
    """The CSV of a data set, beside its images and a pipe."""
    _pictures(folder, originals)
    os.mkfifo(folder / "pipe.png")
    return _written(folder / "cases.csv", disturbed(random, CASES))


def case_list(random: Random, folder: Path, originals: Originals) -> Path:
    """A case list, beside its images and a pipe."""
    _pictures(folder, originals)
    os.mkfifo(folder / "pipe.png")
    return _written(folder / "list.csv", disturbed(random, LIST))


def damaged_cases(random: Random, folder: Path, originals: Originals) -> Path:
    """A whole CSV of a data set whose images are damaged."""
    _pictures(folder, originals)
    victim = folder / random.choice(("a.png", "a_mask.png", "b.png", "b_mask.png"))
    damage: Callable[[Random, bytes], bytes] = random.choice(list(DAMAGE.values()))
    victim.write_bytes(damage(random, victim.read_bytes()))
    return _written(folder / "cases.csv", CASES.encode())


def names_of_labels(random: Random, folder: Path, originals: Originals) -> Path:
    """A folder of images and label maps whose `dataset.json` was disturbed."""
    for place in ("imagesTr", "labelsTr"):
        (folder / place).mkdir()
        for name in ("a.nii.gz", "b.nii.gz"):
            (folder / place / name).write_bytes(originals.labels)
    _written(folder / "dataset.json", disturbed(random, json.dumps(NAMES, indent=1)))
    return folder


def _pictures(folder: Path, originals: Originals) -> None:
    picture = originals.images["PNG"][2]["palette.png"]
    for name in ("a.png", "a_mask.png", "b.png", "b_mask.png", "c.png"):
        (folder / name).write_bytes(picture)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
