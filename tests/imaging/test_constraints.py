"""The prior TOML: what a constraint may look like, and what is refused, by file and number."""

import re
from pathlib import Path

import pytest

from topofix.errors import UnreadableFile
from topofix.imaging.constraints import StatedConstraint, read_constraints
from topofix.request import PriorRequest

SAMPLES = Path(__file__).parents[2] / "sample_data"


@pytest.fixture
def read_text(tmp_path):
    def write_and_read(content: str | bytes):
        path = tmp_path / "heart.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_constraints(path)

    return write_and_read


@pytest.mark.parametrize(
    ("lines", "text", "weights"),
    [
        ('betti = "1,0"', "1,0", ()),
        ('region = "myocardium"\nbetti = "1,1"', "myocardium:1,1", ()),
        ("region = 2\nbetti = [1, 1]", "2:1,1", ()),
        ('region = "2+3"\nbetti = [1, "1-3", "*"]', "2+3:1,1-3,*", ()),
        ('region = [2, 3]\nbetti = "1-, 0"', "2+3:1-, 0", ()),
        ('region = ["right ventricle", 2]\nbetti = "absent"', "right ventricle+2:absent", ()),
        ('region = "foreground"\nbetti = "1,0,0"', "foreground:1,0,0", ()),
        ('betti = "1,0"\nweight = 2', "1,0", (2.0,)),
        ('betti = "1,0"\nweights = [1, 0.5]', "1,0", (1.0, 0.5)),
        ('betti = "1,0"\nweight = 2.0\nweights = [1, 0.5]', "1,0", (2.0, 1.0)),
        ('betti = "absent"\nweight = 0', "absent", (0.0,)),
    ],
)
def test_a_constraint_is_read(read_text, lines, text, weights):
    (constraint,) = read_text(f"[[constraint]]\n{lines}\n").constraints
    assert constraint == StatedConstraint(1, text, weights)


def test_several_constraints_keep_their_order(read_text):
    file = read_text(
        "\ufeff[[constraint]]\nregion = 1\nbetti = [1, 0]\n[[constraint]]\nbetti = [1, 1]\nweight = 3\n"
    )
    assert file.texts == ("1:1,0", "1,1")
    assert file.weights == ((), (3.0,))
    assert [constraint.number for constraint in file.constraints] == [1, 2]


ONE = "[[constraint]]\nbetti = [1, 0]\n[[constraint]]\n"
BETTI = 'expected a text such as "1,0", a list such as [1, "0-2"] or "absent", found'
REGION = "expected a label's name or number, or a list of them, found"
FINITE = "expected finite numbers that are not negative, found"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": expected at least one [[constraint]] table, found none"),
        ("# nothing\n", ": expected at least one [[constraint]] table, found none"),
        ("constraint = []\n", ": expected at least one [[constraint]] table, found none"),
        ("[constraint]\nbetti = [1, 0]\n", ": expected [[constraint]] tables, found one [constraint]"),
        ("constraint = 3\n", ": expected [[constraint]] tables, found 3"),
        ("constraint = [3]\n", ", constraint 1: expected a [[constraint]] table, found 3"),
        ("[[constraints]]\n", ": expected only [[constraint]] tables, found 'constraints'"),
        ("case,b0,b1\n", ": expected TOML, found: Expected '=' after a key"),
        ("a = " + "[" * 100_000, ": expected TOML, found values nested or written too long"),
        (b"a = '\xe4'", ": expected UTF-8, found byte 0xe4 at offset 5"),
        (ONE, ", constraint 2: expected betti, found only an empty table"),
        (ONE + "region = 2", ", constraint 2: expected betti, found only region"),
        (
            ONE + "label = 2",
            ", constraint 2: expected the keys region, betti, weight, weights, found 'label'",
        ),
        (ONE + "betti = 1", f", constraint 2, betti: {BETTI} 1"),
        (ONE + "betti = []", f", constraint 2, betti: {BETTI} []"),
        (ONE + 'betti = ""', f", constraint 2, betti: {BETTI} ''"),
        (ONE + "betti = [1, 0.5]", f", constraint 2, betti: {BETTI} [1, 0.5]"),
        (ONE + "betti = [1, true]", f", constraint 2, betti: {BETTI} [1, True]"),
        (ONE + 'betti = ["1,0"]', f", constraint 2, betti: {BETTI} ['1,0']"),
        (ONE + 'betti = "2:1,1"', f", constraint 2, betti: {BETTI} '2:1,1'"),
        (ONE + "betti = [1, 0]\nregion = 1.5", f", constraint 2, region: {REGION} 1.5"),
        (ONE + "betti = [1, 0]\nregion = []", f", constraint 2, region: {REGION} []"),
        (ONE + 'betti = [1, 0]\nregion = " "', f", constraint 2, region: {REGION} ' '"),
        (ONE + "betti = [1, 0]\nregion = [2, false]", f", constraint 2, region: {REGION} [2, False]"),
        (ONE + "betti = [1, 0]\nweight = -1", f", constraint 2, weight: {FINITE} -1"),
        (ONE + "betti = [1, 0]\nweight = nan", f", constraint 2, weight: {FINITE} nan"),
        (ONE + "betti = [1, 0]\nweight = inf", f", constraint 2, weight: {FINITE} inf"),
        (ONE + "betti = [1, 0]\nweight = true", f", constraint 2, weight: {FINITE} True"),
        (ONE + 'betti = [1, 0]\nweight = "2"', f", constraint 2, weight: {FINITE} '2'"),
        (ONE + "betti = [1, 0]\nweights = 2", ", constraint 2, weights: expected a list of numbers, found 2"),
        (
            ONE + "betti = [1, 0]\nweights = []",
            ", constraint 2, weights: expected a list of numbers, found []",
        ),
        (ONE + "betti = [1, 0]\nweights = [1, -2]", f", constraint 2, weights: {FINITE} -2"),
        (ONE + "betti = [1, 0]\nweights = [1]", ", constraint 2, weights: expected 2 as in betti, found 1"),
        (
            ONE + 'betti = "absent"\nweights = [1, 1]',
            ", constraint 2, weights: expected weight beside absent, found weights [1, 1]",
        ),
    ],
)
def test_a_malformed_file_is_refused_in_one_sentence(read_text, tmp_path, content, message):
    with pytest.raises(UnreadableFile, match="^" + re.escape(f"{tmp_path / 'heart.toml'}{message}")) as error:
        read_text(content)
    assert "\n" not in str(error.value)


def test_a_file_that_would_take_hours_is_refused(read_text, tmp_path):
    read_text(ONE + "betti = [1, 0]\n" + "#" * 200_000)
    with pytest.raises(
        UnreadableFile, match=r"heart\.toml: expected a prior TOML of at most 262144 B, found more$"
    ):
        read_text("a" + ".a" * 2**17)


def test_what_a_stranger_wrote_is_shown_on_one_short_line(read_text):
    for content in ('"a\\nb" = 1', ONE + '"a\\nb" = 1', ONE + f'betti = "{"x:" * 9999}"'):
        with pytest.raises(UnreadableFile) as refused:
            read_text(content)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 400


def test_a_weight_beyond_all_numbers_is_refused(read_text):
    with pytest.raises(UnreadableFile, match="constraint 1, weight: expected finite numbers"):
        read_text(f"[[constraint]]\nbetti = [1, 0]\nweight = 1{'0' * 400}\n")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UnreadableFile, match=r"none\.toml: expected a prior TOML, found: No such file"):
        read_constraints(tmp_path / "none.toml")
    with pytest.raises(UnreadableFile, match="expected a prior TOML, found: Is a directory"):
        read_constraints(tmp_path)


def test_the_sample_is_the_short_axis_heart():
    labels = {"right ventricle": 1, "myocardium": 2, "left ventricle": 3}
    request = PriorRequest(file=read_constraints(SAMPLES / "heart.toml"))
    (prior,) = request.for_image("slice.png", (9, 9), 0, labels).values()
    assert str(prior) == "1:1,0 2:1,1 3:1,0 1+2:1,1 1+3:2,0 2+3:1,0 1+2+3:1,0"
