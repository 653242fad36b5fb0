"""The schedule: phases as asked, rates that rise and fall, an end in time, and no way back into nothing."""

import math
from dataclasses import replace

import pytest

from topofix.errors import InvalidCheckpoint
from topofix.learning.schedule import Schedule
from topofix.learning.training_state import Epoch, PhaseName, TrainingState
from topofix.records import TrainingOptions

OPTIONS = TrainingOptions(
    epochs=10,
    topology_epochs=5,
    patience=3,
    validate_every=2,
    learning_rate=1e-2,
    topology_learning_rate=1e-3,
    topology_weight=0.5,
    warm_up=4,
)
BATCHES = 4


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(OPTIONS, BATCHES, with_topology=True)


def epoch(number: int, phase: PhaseName = "labels") -> Epoch:
    return Epoch(number, phase, BATCHES, BATCHES, 0.5, 0.0, (), 0.0, -1.0, finished=True)


def pass_epochs(schedule: Schedule, count: int) -> None:
    for _ in range(count):
        schedule.close(epoch(schedule.number + 1, schedule.phase.name))


@pytest.mark.parametrize(
    ("change", "with_topology", "names"),
    [
        ({}, True, ["labels", "topology"]),
        ({}, False, ["labels"]),
        ({"topology_epochs": 0}, True, ["labels"]),
        ({"topology_weight": 0.0}, True, ["labels"]),
    ],
    ids=str,
)
def test_topology_has_a_phase_where_it_is_known_and_asked_for(change, with_topology, names):
    schedule = Schedule(replace(OPTIONS, **change), BATCHES, with_topology=with_topology)
    assert [phase.name for phase in schedule.phases] == names


def test_the_rate_rises_shortly_and_falls_along_a_half_cosine(schedule):
    rates = []
    for _ in range(OPTIONS.epochs):
        for done in range(BATCHES):
            schedule.done = done
            rates.append(schedule.learning_rate)
        pass_epochs(schedule, 1)
    assert rates[:2] == pytest.approx([0.25e-2, 0.75e-2])  # a twentieth of forty steps is two
    places = [(step + 0.5) / 40 for step in range(2, 40)]
    expected = [1e-2 * (1 + math.cos(math.pi * (place - 0.05) / 0.95)) / 2 for place in places]
    assert rates[2:] == pytest.approx(expected)


def test_lambda_rises_with_the_epochs_of_the_phase(schedule):
    pass_epochs(schedule, 3)
    schedule.enter(1)
    found = []
    for _ in range(5):
        found.append(schedule.topology_weight)
        pass_epochs(schedule, 1)
    assert found == [0.125, 0.25, 0.375, 0.5, 0.5]
    assert Schedule(replace(OPTIONS, warm_up=0), BATCHES, with_topology=True).topology_weight == 0.5


def test_every_second_epoch_is_due_and_the_last_of_each_phase(schedule):
    due = []
    for index, epochs in enumerate((10, 5)):
        if index:
            schedule.enter(index)
        for _ in range(epochs):
            due.append(schedule.is_due)
            pass_epochs(schedule, 1)
    assert [number for number, is_due in enumerate(due, start=1) if is_due] == [2, 4, 6, 8, 10, 12, 14, 15]


@pytest.mark.parametrize(
    ("best_epoch", "last"),
    [(0, 4), (2, 6), (4, 8), (8, 10)],  # three epochs without a better one, and then the next validation
)
def test_a_phase_ends_when_patience_does_or_its_epochs(schedule, best_epoch, last):
    while not schedule.phase_is_over(min(best_epoch, schedule.number)):
        pass_epochs(schedule, 1)
    assert schedule.number == last


def test_a_second_phase_has_patience_anew(schedule):
    pass_epochs(schedule, 6)
    assert schedule.phase_is_over(2)
    schedule.enter(1)
    assert not schedule.phase_is_over(2)
    pass_epochs(schedule, 3)
    assert not schedule.phase_is_over(2)
    pass_epochs(schedule, 1)
    assert schedule.phase_is_over(2)


def test_what_remains_is_estimated_from_the_batches_so_far(schedule):
    pass_epochs(schedule, 2)
    schedule.done = 2
    assert schedule.remaining(20.0) == pytest.approx(20 / 10 * (15 * 4 - 10))
    pass_epochs(schedule, 8)
    schedule.enter(1)
    assert schedule.remaining(40.0) == pytest.approx(5 * 4)


def test_a_state_leads_back_to_its_place(schedule):
    history = (epoch(1), epoch(2), epoch(3, "topology"))
    schedule.restore(TrainingState({}, 1, 2, 4, 2, 0.5, 9.0, history))
    assert (schedule.phase.name, schedule.begun, schedule.number) == ("topology", 2, 3)
    assert schedule.topology_weight == 0.25


def test_a_phase_that_there_is_not_is_refused():
    schedule = Schedule(OPTIONS, BATCHES, with_topology=False)
    state = TrainingState({}, 1, 1, 4, 1, 0.5, 9.0, (epoch(1), epoch(2, "topology")))
    with pytest.raises(InvalidCheckpoint, match="found a state in its phase 'topology', now there is only"):
        schedule.restore(state)
