"""The TOML of somebody else's network names what lies beside it, and nothing that takes for ever."""

from pathlib import Path

import pytest

from topofix.errors import InvalidCheckpoint
from topofix.learning.description import MOST_BYTES, MOST_NUMBER, describe

SOUND = 'weights = "{}"\ndimensions = 2\nlabels = ["disc"]\npatch_size = [16, 24]\n'


def written(folder: Path, text: str) -> Path:
    (folder / "their.toml").write_text(text, "utf-8")
    return folder / "their.toml"


def refused(path: Path) -> str:
    with pytest.raises(InvalidCheckpoint) as caught:
        describe(path)
    assert str(caught.value).startswith("their.toml: expected ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("name", ["model.ts", "weights/model.ts", "./model.ts", "my model..ts", "...ts"])
def test_weights_below_the_folder_are_found(tmp_path, name):
    assert describe(written(tmp_path, SOUND.format(name))).weights == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["/etc/model.ts", "../model.ts", "a/../../model.ts", "C:\\\\model.ts", "..\\\\model.ts", "a\\u0000.ts"],
)
def test_weights_elsewhere_are_refused(tmp_path, name):
    assert "weights to be a file below its own folder, neither absolute nor with .., found '" in refused(
        written(tmp_path, SOUND.format(name))
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = " + "[" * 10_000, "expected TOML, found something else ("),
        ("a" + ".a" * 2**17, f"expected at most {MOST_BYTES} B of TOML, found more"),
        ('"a\\nb" = 1', r"found 'a\nb'"),
        (SOUND.format("x" * 10_000), "expected weights to end in .ts"),
        (
            SOUND.format("m.ts").replace("16, 24", "0, " * 9999),
            "expected 2 numbers for spacing and patch size",
        ),
        (
            SOUND.format("m.ts").replace('"disc"', '1, "x"'),
            "expected labels to be a list of names, found [1, 'x']",
        ),
        (
            SOUND.format("m.ts").replace("16, 24", "99999, 99999"),
            "expected at most 16777216 voxels in a patch",
        ),
        (
            SOUND.format("m.ts").replace("disc", "\\u001b[31m"),
            "expected labels of up to 128 printable characters",
        ),
    ],
)
def test_a_hostile_description_is_refused_in_one_short_sentence(tmp_path, text, says):
    assert says in refused(written(tmp_path, text))


@pytest.mark.parametrize("value", ["16385", "-16385", "[1, [16385]]", "{ a = { b = 9999999999 } }"])
def test_numbers_beyond_every_network_are_refused(tmp_path, value):
    text = SOUND.format("m.safetensors") + f'[network]\nname = "UNet"\nchannels = {value}\n'
    assert f"expected no whole number beyond {MOST_NUMBER} in [network], found one" in refused(
        written(tmp_path, text)
    )


def test_other_arguments_pass(tmp_path):
    text = SOUND.format("m.safetensors") + '[network]\nname = "UNet"\na = [16384, [-2]]\nb = 1e30\nc = true\n'
    assert describe(written(tmp_path, text)).network["b"] == 1e30
