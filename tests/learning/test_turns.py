"""Processes that find the same fault: the first says so at once, the others only if nobody ends them."""

import pytest

from topofix.errors import InvalidOption, UnreadableFile
from topofix.learning import turns
from topofix.learning.turns import TURN, in_turn


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Seconds that are waited instead of slept."""
    found: list[float] = []
    monkeypatch.setattr(turns, "sleep", found.append)
    return found


@pytest.mark.parametrize(("rank", "expected"), [(None, []), ("0", []), ("1", [TURN]), ("10", [TURN])])
@pytest.mark.parametrize("error", [UnreadableFile("a.png: damaged"), OSError("full")], ids=repr)
def test_all_but_the_first_wait_before_they_speak(rank, expected, error, waits, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(type(error)) as caught, in_turn():
        raise error
    assert (caught.value, waits) == (error, expected)


def test_where_nothing_is_wrong_nobody_waits(waits, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with in_turn():
        pass
    assert waits == []


def test_a_mistake_of_our_own_is_not_held_back(waits, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ZeroDivisionError), in_turn():
        raise ZeroDivisionError
    assert waits == []


def test_a_function_can_take_turns_time_and_again(waits, monkeypatch):
    @in_turn()
    def refuse() -> None:
        raise InvalidOption("no")

    monkeypatch.setenv("RANK", "3")
    for count in (1, 2):
        with pytest.raises(InvalidOption):
            refuse()
        assert waits == [TURN] * count
