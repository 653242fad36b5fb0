"""The command line as a function, images to give it, and two tiny networks of its own making."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from topofix.cli import app
from topofix.imaging.volumes import Volume, write

SIDE = 32
WALL, CAVITY = 1, 2


@pytest.fixture(scope="session", autouse=True)
def terminal():
    """The same in a terminal, in a pipe and in continuous integration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS", "PY_COLORS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def run(terminal):
    """Runs `topofix ARGUMENTS...` and returns exit_code, stdout and stderr; a traceback fails the test."""

    def invoke(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture(scope="session")
def save():
    """Writes an array as an image file of unit spacing, or on the grid of another volume."""

    def save_array(path: Path, array, like: Volume | None = None, spacing=None) -> Path:
        array = np.asarray(array)
        steps = spacing or (1.0,) * array.ndim
        write(path, array, like or Volume(array, steps, np.diag([*steps, 1.0, 1.0][:4]), path))
        return path

    return save_array


@pytest.fixture(scope="session")
def count():
    """Betti numbers of a mask by labelling and by counting cells; foreground 8/26-connected."""

    def count_features(mask) -> tuple[int, ...]:
        mask = np.asarray(mask, bool)
        everywhere = np.ones((3,) * mask.ndim)
        pieces = ndimage.label(mask, everywhere)[1]
        enclosed = ndimage.label(~np.pad(mask, 1))[1] - 1
        if mask.ndim == 2:
            return pieces, enclosed
        cells = np.zeros([2 * side + 1 for side in mask.shape], bool)
        cells[1::2, 1::2, 1::2] = mask
        cells = ndimage.binary_dilation(cells, everywhere)
        euler = int((cells * (-1) ** np.indices(cells.shape).sum(0)).sum())
        return pieces, pieces + enclosed - euler, enclosed

    return count_features


@pytest.fixture
def files_in(tmp_path):
    """What lies in the test's folder now, as a set of names."""
    return lambda: {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def heart():
    """Makes a bright wall around a grey cavity on noise, and its labels; uint8 (32, 32)."""
    return draw_heart


def draw_heart(centre=(16.0, 16.0), radius=8.0, seed=0) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices((SIDE, SIDE))
    distance = np.hypot(rows - centre[0], columns - centre[1])
    labels = np.where(distance < radius / 2, CAVITY, np.where(distance < radius, WALL, 0))
    noise = np.random.default_rng(seed).normal(0, 8, labels.shape)
    image = np.choose(labels, (30, 220, 120)) + noise
    return image.clip(0, 255).astype(np.uint8), labels.astype(np.uint8)


@pytest.fixture(scope="session")
def hearts(tmp_path_factory, save) -> Path:
    """A data set of images/ and labels/."""
    folder = tmp_path_factory.mktemp("hearts")
    random = np.random.default_rng(1)
    for number in range(10):
        image, labels = draw_heart(random.uniform(12, 20, 2), random.uniform(7, 10), number)
        save(folder / "images" / f"case{number:02}.png", image)
        save(folder / "labels" / f"case{number:02}.png", labels)
    return folder


@contextmanager
def tiny_channels():
    from topofix.learning import network as networks

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.CHANNELS, 2, (8, 16, 16))
        yield


@pytest.fixture
def small_networks():
    """Every 2-D network that is planned is tiny."""
    with tiny_channels():
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory, run, hearts) -> Path:
    """What `topofix train` makes of the hearts: labels wall (1) and cavity (2)."""
    path = tmp_path_factory.mktemp("model") / "heart.safetensors"
    with tiny_channels():
        result = run(
            *("train", hearts, "--output", path, "--labels", "wall,cavity", "--patch-size", "32,32"),
            *("--epochs", 24, "--batch-size", 3, "--learning-rate", 0.01, "--no-augment", "--device", "cpu"),
            *("--licence", "CC0-1.0"),
        )
    assert result.exit_code == 0, result.stderr
    return path


@pytest.fixture(scope="session")
def model_3d(tmp_path_factory) -> Path:
    """A network for volumes that nobody has trained."""
    from topofix.learning import network as networks

    config = networks.NetworkConfig(3, ("blob",), (1.0,) * 3, (8,) * 3, (4, 4, 4))
    path = tmp_path_factory.mktemp("model_3d") / "blob.safetensors"
    networks.save(path, networks.build(config), config, {})
    return path
