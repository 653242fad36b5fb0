"""What every test of images needs."""

import locale

import pytest


@pytest.fixture(autouse=True)
def _locale():
    """GDCM's writer, which only tests use, leaves the whole process in the locale "C"."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)
