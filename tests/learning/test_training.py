"""Training learns what there is to learn, twice the same, interrupted or not, and gives back its best."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from topofix.errors import InvalidCheckpoint, InvalidOption
from topofix.learning import training
from topofix.learning.dataset import Case, make_case
from topofix.learning.inference import predict
from topofix.learning.loss import Evaluation
from topofix.learning.network import NetworkConfig, tensors_of
from topofix.learning.training import TrainingResult, train
from topofix.learning.training_state import Epoch, TrainingState, load_state, save_state
from topofix.learning.validation import Scores, validate
from topofix.records import TrainingOptions
from topofix.topology.priors import Prior

CPU = torch.device("cpu")
FLAT = NetworkConfig(2, ("disc",), (1.0, 1.0), (32, 32), channels=(4, 8, 8))
SOLID = NetworkConfig(3, ("ball",), (1.0, 1.0, 1.0), (16, 16, 16), channels=(4, 8, 8))
QUICK = TrainingOptions(epochs=10, batch_size=4, learning_rate=2e-2, validate_every=5, augment=False)


def ball_case(config: NetworkConfig, side: int, seed: int) -> Case:
    """A bright ball, or disc, at a random place in noise."""
    random = np.random.default_rng(seed)
    shape = (side,) * config.dimensions
    centre = random.uniform(0.3 * side, 0.7 * side, config.dimensions)
    label = (((np.indices(shape).T - centre) ** 2).sum(-1) < (0.25 * side) ** 2).T
    image = 100 * (label + 0.4 * random.normal(size=shape))
    axes = (tuple(range(config.dimensions)), ())
    return make_case(f"case {seed}", image, label, (1.0,) * config.dimensions, axes, config)


@pytest.fixture(scope="module")
def discs():
    return [ball_case(FLAT, 48, seed) for seed in range(12)]


@pytest.fixture(scope="module")
def result(discs):
    return train(discs[:9], discs[9:], FLAT, QUICK, CPU)


def test_discs_are_learned_in_seconds(result, discs):
    assert result.history[-1].dice[0] > 0.8
    assert result.history[-1].loss < 0.6 * result.history[0].loss
    assert validate(result.network, FLAT, discs[9:], CPU).dice[0] > 0.8


def test_balls_are_learned_in_seconds():
    cases = [ball_case(SOLID, 20, seed) for seed in range(10)]
    options = TrainingOptions(epochs=20, batch_size=2, learning_rate=1e-2, validate_every=5, augment=False)
    result = train(cases[:8], cases[8:], SOLID, options, CPU)
    assert max(epoch.best for epoch in result.history) > 0.8


def test_the_same_seed_gives_the_same_bits(discs):
    options = TrainingOptions(epochs=2, batch_size=4, validate_every=2, augment=True, seed=3)
    first = train(discs[:4], discs[9:10], FLAT, options, CPU).network.state_dict()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global generator, which must not matter
    again = train(discs[:4], discs[9:10], FLAT, options, CPU).network.state_dict()
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    other = TrainingOptions(epochs=2, batch_size=4, validate_every=2, augment=True, seed=4)
    changed = train(discs[:4], discs[9:10], FLAT, other, CPU).network.state_dict()
    assert any(not torch.equal(value, changed[name]) for name, value in first.items())


def test_the_network_comes_back_ready_to_predict(result, discs):
    assert not any(module.training for module in result.network.modules())
    case = discs[10]
    logits = predict(result.network, FLAT, case.image, case.grid, CPU)
    assert logits.shape == (2, 48, 48)


def test_the_state_of_the_best_validation_is_returned(discs, monkeypatch):
    scores = iter([0.3, 0.9, 0.5, 0.9])
    states, announced = [], []

    def scripted(network, *args):
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return Scores((next(scores),), 0.0)

    monkeypatch.setattr(training, "validate", scripted)
    options = TrainingOptions(epochs=4, batch_size=4, learning_rate=1e-2, validate_every=1, augment=False)
    on_best = lambda network, epoch: announced.append((epoch.number, epoch.dice, epoch.best))  # noqa: E731
    result = train(discs[:4], discs[9:10], FLAT, options, CPU, on_best=on_best)
    assert result.best_epoch == 2
    assert announced == [(1, (0.3,), 0.3), (2, (0.9,), 0.9)]
    assert [epoch.best for epoch in result.history] == [0.3, 0.9, 0.9, 0.9]
    returned = result.network.state_dict()
    assert all(torch.equal(returned[name], value) for name, value in states[1].items())
    assert any(not torch.equal(returned[name], value) for name, value in states[3].items())


@pytest.mark.parametrize(
    ("patience", "validate_every", "scores", "epochs"),
    [
        (3, 1, [0.5, 0.6, 0.6, 0.5, 0.4, 0.9], 5),  # three epochs after the best, the second
        (2, 1, [0.5, 0.4, 0.3, 0.9], 3),
        (2, 3, [0.5, 0.6, 0.5, 0.9], 9),  # no sooner than there is a validation to judge by
        (20, 2, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 12),
    ],
)
def test_training_stops_when_patience_is_over(patience, validate_every, scores, epochs, discs, monkeypatch):
    answers = iter(scores)
    monkeypatch.setattr(training, "validate", lambda *args: Scores((next(answers),), 0.0))
    options = TrainingOptions(
        epochs=12, batch_size=4, patience=patience, validate_every=validate_every, augment=False
    )
    result = train(discs[:1], discs[9:10], FLAT, options, CPU)
    assert len(result.history) == epochs
    assert result.history[-1].finished


def test_progress_is_reported_after_every_batch_and_epoch(discs):
    seen = []
    options = TrainingOptions(epochs=2, batch_size=4, validate_every=2, augment=False)
    result = train(discs[:6], discs[9:10], FLAT, options, CPU, on_step=seen.append)
    assert [(e.number, e.step, e.steps, e.finished) for e in seen] == [
        (1, 1, 2, False),
        (1, 2, 2, False),
        (1, 2, 2, True),
        (2, 1, 2, False),
        (2, 2, 2, False),
        (2, 2, 2, True),
    ]
    assert [len(e.dice) for e in seen] == [0, 0, 0, 0, 0, 1]
    assert all(math.isfinite(e.loss) and e.seconds > 0 and e.remaining >= 0 for e in seen)
    assert result.history == tuple(e for e in seen if e.finished)


class Stop(Exception):
    """An interruption from outside."""


@pytest.fixture(scope="module")
def labelled():
    return [ring_case(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def unlabelled():
    return [ring_case(seed, drawn=False, prior="1,1") for seed in range(10, 13)]


@pytest.fixture(scope="module")
def held_back():
    return [ring_case(seed, prior="1,1") for seed in range(20, 23)]


RING = NetworkConfig(2, ("ring",), (1.0, 1.0), (16, 16), channels=(4, 8, 8))
TWO_PHASES = TrainingOptions(
    epochs=3, topology_epochs=3, batch_size=2, validate_every=2, learning_rate=1e-2, topology_weight=0.1
)


def ring_case(
    seed: int, shape=(24, 24), *, drawn=True, prior: str | None = None, noise=0.3, gap=0.5, config=RING
) -> Case:
    """A bright ring in noise, dark along `gap` radians of it, and drawn without the gap."""
    random = np.random.default_rng(seed)
    rows, columns = (
        np.indices(shape) - np.array(shape).reshape(2, 1, 1) / 2 - random.uniform(-2, 2, (2, 1, 1))
    )
    distance, angle = np.hypot(rows, columns), np.arctan2(rows, columns)
    size = min(shape)
    label = (distance < 0.32 * size) & (distance > 0.19 * size)
    away = np.abs(np.angle(np.exp(1j * (angle - random.uniform(-np.pi, np.pi)))))
    image = 100 * ((label & (away > gap / 2)) + noise * random.normal(size=shape))
    priors = {} if prior is None else {None: Prior.parse(prior)}
    axes = ((0, 1), ())
    return make_case(f"case {seed}", image, label if drawn else None, (1.0, 1.0), axes, config, priors)


class States(list[TrainingState]):
    """Collects states as they are: a training goes on with the same tensors."""

    def __call__(self, state: TrainingState) -> None:
        tensors = {name: value.detach().clone() for name, value in state.tensors.items()}
        self.append(replace(state, tensors=tensors))


def timeless(history: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0, remaining=0.0) for epoch in history]


def phases(result: TrainingResult) -> list[str]:
    return [epoch.phase for epoch in result.history]


def test_learning_on_topology_follows_learning_on_labels(labelled, unlabelled, held_back):
    seen = []
    result = train([*labelled, *unlabelled], held_back, RING, TWO_PHASES, CPU, on_step=seen.append)
    assert phases(result) == ["labels"] * 3 + ["topology"] * 3
    assert [epoch.number for epoch in result.history] == [1, 2, 3, 4, 5, 6]
    assert [epoch.validated for epoch in result.history] == [False, True, True, False, True, True]
    assert [epoch.topological_loss > 0 for epoch in result.history] == [False] * 3 + [True] * 3
    assert {epoch.steps for epoch in seen} == {2}
    assert [epoch.step for epoch in seen if not epoch.finished] == [1, 2] * 6
    assert all(0 <= epoch.right <= 1 and epoch.remaining >= 0 for epoch in seen)
    last = result.history[-1]
    assert last.best >= (last.dice[0] + last.right) / 2, "the best is judged by Dice and topology"


@pytest.mark.parametrize("change", [{"topology_weight": 0.0}, {"topology_epochs": 0}], ids=str)
def test_without_weight_or_epochs_there_is_no_second_phase(change, labelled, unlabelled, held_back):
    options = replace(TWO_PHASES, epochs=1, **change)
    assert phases(train([*labelled, *unlabelled], held_back, RING, options, CPU)) == ["labels"]


def test_without_priors_there_is_no_second_phase(labelled, held_back):
    options = replace(TWO_PHASES, epochs=1)
    ignored = ring_case(9, drawn=False)
    assert phases(train([*labelled, ignored], held_back, RING, options, CPU)) == ["labels"]


def test_where_all_have_labels_topology_is_learned_from_those_with_priors(labelled, held_back, monkeypatch):
    asked = recorded_priors(monkeypatch)
    options = replace(TWO_PHASES, epochs=1, topology_epochs=1)
    result = train([*labelled, ring_case(7, prior="1,2")], held_back, RING, options, CPU)
    assert phases(result) == ["labels", "topology"]
    assert set(itertools.chain.from_iterable(asked)) == {Prior.parse("1,2")}


def recorded_priors(monkeypatch) -> list[list[Prior]]:
    """What is asked of every unlabelled batch from now on."""
    asked: list[list[Prior]] = []
    evaluate = training.evaluate_batch

    def record(images, priors):
        asked.append(priors)
        return evaluate(images, priors)

    monkeypatch.setattr(training, "evaluate_batch", record)
    return asked


def test_topology_is_judged_on_whole_images_each_by_its_own_prior(labelled, held_back, monkeypatch):
    """Of sizes that no patch has and no U-net takes; padding is cut off again."""
    sizes = {(21, 30): "1,1", (26, 23): "2,0", (17, 19): "1,0"}
    cases = [
        ring_case(number, shape, drawn=False, prior=prior)
        for number, (shape, prior) in enumerate(sizes.items())
    ]
    seen = []
    evaluate = training.evaluate_batch

    def record(images, priors):
        seen.append(
            [(tuple(image.shape[1:]), str(prior)) for image, prior in zip(images, priors, strict=True)]
        )
        for image in images:
            assert image.shape[0] == 2
            assert torch.allclose(image.sum(0), torch.ones(image.shape[1:]))
        return evaluate(images, priors)

    monkeypatch.setattr(training, "evaluate_batch", record)
    options = replace(TWO_PHASES, epochs=1, topology_epochs=2)
    train([*labelled, *cases], held_back, RING, options, CPU)
    assert sum(len(batch) for batch in seen) == 8  # two epochs of two labelled batches
    assert {pair for batch in seen for pair in batch} == set(sizes.items())


def test_only_the_slices_with_a_prior_are_judged(labelled, held_back, monkeypatch):
    asked = recorded_priors(monkeypatch)
    stack = np.random.default_rng(0).random((4, 20, 20))
    priors = {1: Prior.parse("1,1"), 3: Prior.parse("1,0")}
    case = make_case("stack", stack, None, (8.0, 1.0, 1.0), ((1, 2, 0), (2,)), RING, priors)
    train([*labelled, case], held_back, RING, replace(TWO_PHASES, epochs=1, topology_epochs=1), CPU)
    assert Counter(itertools.chain.from_iterable(asked)) == dict.fromkeys(priors.values(), 2)


def test_a_prior_that_allows_everything_is_no_reason_to_stop(labelled, held_back):
    case = ring_case(9, drawn=False, prior="*,*")
    result = train([*labelled, case], held_back, RING, replace(TWO_PHASES, epochs=1, topology_epochs=1), CPU)
    assert [epoch.topological_loss for epoch in result.history] == [0.0, 0.0]


def recorded_descents(monkeypatch) -> list[tuple[int, float, float]]:
    """Of every step from now on: the epoch, its loss, its learning rate; L_topo is 1 for every image."""
    steps: list[tuple[int, float, float]] = []
    descend = training._Run._descend

    def record(self, losses: Sequence[Callable[[], Tensor]], weight: float = 1.0) -> float:
        total: float = descend(self, losses, weight)
        steps.append((self.number + 1, weight * total, self.optimiser.param_groups[0]["lr"]))
        return total

    def one(images, priors):
        return [Evaluation(1 + 0 * image.sum(), ((1, 1),), 0) for image in images]

    monkeypatch.setattr(training._Run, "_descend", record)
    monkeypatch.setattr(training, "evaluate_batch", one)
    return steps


@pytest.mark.parametrize(
    ("warm_up", "shares"), [(4, (0.25, 0.5, 0.75, 1, 1)), (1, (1,) * 5), (0, (1,) * 5)], ids=str
)
def test_lambda_rises_over_the_first_epochs(warm_up, shares, labelled, unlabelled, held_back, monkeypatch):
    steps = recorded_descents(monkeypatch)
    options = replace(
        TWO_PHASES, epochs=2, topology_epochs=5, topology_weight=64.0, warm_up=warm_up, validate_every=5
    )
    train([*labelled[:2], *unlabelled], held_back, RING, options, CPU)
    weights = [(number, loss) for number, loss, _ in steps if number > 2]
    assert weights[1::2] == [(3 + index, pytest.approx(64 * share)) for index, share in enumerate(shares)]


def test_unlabelled_batches_follow_every_labelled_one(labelled, unlabelled, held_back, monkeypatch):
    steps = recorded_descents(monkeypatch)
    options = replace(
        TWO_PHASES, epochs=1, topology_epochs=2, topology_weight=64.0, warm_up=1, unlabelled_batches=3
    )
    result = train([*labelled, *unlabelled], held_back, RING, options, CPU)
    ours = [loss == 64.0 for _, loss, _ in steps]
    assert ours == [False] * 2 + [False, True, True, True] * 4
    assert [epoch.topological_loss for epoch in result.history] == [0.0, 1.0, 1.0]


def test_unlabelled_images_take_turns(labelled, unlabelled, held_back, monkeypatch):
    """Twelve places in an epoch for five images: none comes thrice before all have come twice."""
    sizes: list[tuple[int, ...]] = []

    def record(images, priors):
        sizes.extend(tuple(image.shape[1:]) for image in images)
        return [Evaluation(0 * image.sum(), ((1, 1),), 0) for image in images]

    monkeypatch.setattr(training, "evaluate_batch", record)
    cases = [ring_case(number, (20 + number, 20), drawn=False, prior="1,1") for number in range(5)]
    options = replace(TWO_PHASES, epochs=1, topology_epochs=2, unlabelled_batches=3)
    train([*labelled, *cases], held_back, RING, options, CPU)
    assert len(sizes) == 24
    for epoch in (sizes[:12], sizes[12:]):
        assert sorted(Counter(epoch[:10]).values()) == [2] * 5
        assert epoch[:5] == epoch[5:10]
    assert sizes[:5] != sizes[12:17], "the same order in every epoch"


def test_each_phase_has_a_learning_rate_of_its_own_that_rises_and_falls(
    labelled, unlabelled, held_back, monkeypatch
):
    steps = recorded_descents(monkeypatch)
    options = replace(
        TWO_PHASES, epochs=10, topology_epochs=10, validate_every=10, topology_learning_rate=1e-3
    )
    train([*labelled, *unlabelled], held_back, RING, options, CPU)
    rates = [rate for number, _, rate in steps if number <= 10]
    lower = [rate for number, _, rate in steps if number > 10]
    assert lower[::2] == lower[1::2], "a labelled batch and the unlabelled one after it go equally far"
    for found, highest in ((rates, 1e-2), (lower[::2], 1e-3)):
        top = int(np.argmax(found))
        assert 0 <= top <= 1  # after a twentieth of twenty batches
        assert 0.98 * highest < found[top] <= highest
        assert found[:top] == sorted(found[:top])
        assert found[top:] == sorted(found[top:], reverse=True)
        assert 0 < found[-1] < 0.01 * highest
    assert found[10] == pytest.approx(1e-3 * (1 + math.cos(math.pi * (10.5 / 20 - 0.05) / 0.95)) / 2)


def test_the_second_phase_begins_from_the_best_state_of_the_first(
    labelled, unlabelled, held_back, monkeypatch
):
    """With steps too small to change a single weight."""
    scores = iter([0.4, 0.9, 0.2, 0.5, 0.5])
    monkeypatch.setattr(training, "validate", lambda *args: Scores((next(scores),), 0.0))
    options = replace(TWO_PHASES, topology_epochs=2, validate_every=1, topology_learning_rate=1e-30)
    states = States()
    result = train([*labelled, *unlabelled], held_back, RING, options, CPU, on_epoch=states)
    assert result.best_epoch == 2
    weights = dict(result.network.named_parameters())
    for state in (states[3], states[4]):
        assert (state.phase, state.begun, state.best_epoch) == (1, 3, 2)
        for name, value in weights.items():
            for kind in ("network", "average", "best"):
                assert torch.equal(state.tensors[f"{kind}/{name}"], value)
    assert states[3].updates == 2


def test_unlabelled_images_leave_the_statistics_of_normalisation_alone(
    labelled, unlabelled, held_back, monkeypatch
):
    step = training._Run._unlabelled_step
    checked = []

    def record(self, *batch):
        before = [buffer.clone() for buffer in self.network.buffers()]
        loss = step(self, *batch)
        checked.append(all(map(torch.equal, before, self.network.buffers())))
        return loss

    monkeypatch.setattr(training._Run, "_unlabelled_step", record)
    train([*labelled, *unlabelled], held_back, RING, TWO_PHASES, CPU)
    assert checked == [True] * 6


def test_learning_on_topology_closes_the_gaps_of_rings_without_labels():
    """The same steps with and without weight on topology, judged on rings that neither has seen."""
    config = replace(RING, patch_size=(32, 32))

    def rings(seeds: range, **how) -> list[Case]:
        return [ring_case(seed, (32, 32), noise=0.35, config=config, **how) for seed in seeds]

    training_cases = [*rings(range(4)), *rings(range(10, 22), drawn=False, prior="1,1")]
    held_back, unseen = rings(range(50, 66), prior="1,1"), rings(range(100, 130), prior="1,1")
    options = TrainingOptions(
        epochs=12,
        topology_epochs=12,
        batch_size=2,
        unlabelled_batches=2,
        learning_rate=1e-2,
        topology_learning_rate=5e-3,
        topology_weight=0.3,
        warm_up=2,
        validate_every=4,
        augment=False,
    )
    with_it, without = (
        train(training_cases, held_back, config, replace(options, topology_weight=weight), CPU)
        for weight in (0.3, 1e-12)
    )
    losses = [epoch.topological_loss for epoch in with_it.history if epoch.phase == "topology"]
    assert min(losses) < 0.6 * losses[0]
    rights = [validate(result.network, config, unseen, CPU).right for result in (with_it, without)]
    assert rights[0] > rights[1] + 0.25, rights


def test_a_batch_of_whole_images_takes_no_more_memory_than_one_of_patches(
    labelled, unlabelled, held_back, monkeypatch
):
    """Two patches have 512 voxels: an image of 24 x 24 is alone, four of 10 x 10 are not."""
    asked = recorded_priors(monkeypatch)
    small = [ring_case(seed, (10, 10), drawn=False, prior="1,1") for seed in range(4)]
    options = replace(TWO_PHASES, epochs=1, topology_epochs=1, augment=False)
    train([*labelled, *unlabelled], held_back, RING, options, CPU)
    assert [len(priors) for priors in asked] == [1] * 4
    asked.clear()
    train([*labelled, *small], held_back, RING, options, CPU)
    assert [len(priors) for priors in asked] == [2] * 2


def test_images_one_by_one_give_the_gradient_of_the_batch(unlabelled, labelled, held_back):
    """Of a batch of three, in one piece and in three."""
    images = [case.seen_image[0] for case in unlabelled]
    priors = [prior for case in unlabelled for prior in case.priors if prior]
    found = []
    for size in (1, 9):
        options = replace(TWO_PHASES, batch_size=size)
        run = training._Run([*labelled, *unlabelled], held_back, RING, options, CPU, training.ALONE)
        loss = run._unlabelled_step(images, priors)
        found.append([torch.tensor(loss), *(weight.grad for weight in run.network.parameters())])
    assert found[0][1].abs().sum() > 0
    for one_by_one, together in zip(*found, strict=True):
        torch.testing.assert_close(one_by_one, together, rtol=1e-3, atol=1e-5)


def test_a_learning_rate_that_is_too_high_ends_the_training_at_once(discs):
    states, best = States(), []
    options = replace(QUICK, learning_rate=1e37, validate_every=1)
    with pytest.raises(InvalidOption) as caught:
        train(
            discs[:9], discs[9:], FLAT, options, CPU, on_epoch=states, on_best=lambda *args: best.append(args)
        )
    assert str(caught.value).startswith("--learning-rate: expected loss and weights that stay finite, found ")
    assert str(caught.value).endswith(
        " in epoch 1 at the rate 1e+37; there is no good epoch before it, and a lower rate may help"
    )
    assert (states, best) == ([], [])


def test_weights_that_only_the_last_step_broke_are_noticed(discs):
    """A single batch: its loss was still good."""
    options = replace(QUICK, epochs=1, validate_every=1, learning_rate=1e37)
    states = States()
    with pytest.raises(InvalidOption, match=r"found weights that are not in epoch 1 at the rate 1e\+37"):
        train(discs[:1], discs[9:], FLAT, options, CPU, on_epoch=states)
    assert not states


@pytest.mark.parametrize("spoilt", ["_supervised_loss", "_topological_loss"])
def test_a_loss_that_is_no_number_names_the_last_good_epoch(
    spoilt, labelled, unlabelled, held_back, monkeypatch
):
    compute, states = getattr(training._Run, spoilt), States()

    def spoil(self, *batch):
        return compute(self, *batch) * (math.nan if self.number == 4 else 1)

    monkeypatch.setattr(training._Run, spoilt, spoil)
    sentence = "--topology-learning-rate: .* found a loss of nan in epoch 5 .*; the last good epoch is 4"
    with pytest.raises(InvalidOption, match=sentence):
        train([*labelled, *unlabelled], held_back, RING, TWO_PHASES, CPU, on_epoch=states)
    assert len(states) == 4
    assert all(value.isfinite().all() for value in states[-1].tensors.values())


def test_predictions_that_have_no_barcode_are_no_riddle(labelled, unlabelled, held_back):
    """A whole image may overflow where no patch did."""
    options = replace(TWO_PHASES, epochs=1, topology_learning_rate=1e37)
    with pytest.raises(
        InvalidOption, match=r"--topology-learning-rate: .* predictions that are not in epoch 2"
    ):
        train([*labelled, *unlabelled], held_back, RING, options, CPU)


def test_too_little_memory_is_one_sentence(discs, monkeypatch):
    def refuse(*args):
        raise MemoryError

    monkeypatch.setattr(training._Run, "_supervised_loss", refuse)
    with pytest.raises(InvalidOption, match="found too little of it on cpu; a smaller --batch-size or"):
        train(discs[:1], discs[9:], FLAT, QUICK, CPU)


@pytest.mark.parametrize("held_back_prior", [None, "1,1"])
def test_where_topology_is_learned_it_has_a_say_in_the_best_epoch(
    held_back_prior, labelled, unlabelled, monkeypatch
):
    """Even where no case held back has a prior; a resumed training judges likewise."""
    scores = [Scores((0.9,), 0.0), Scores((0.6,), 1.0), Scores((0.8,), 0.4), Scores((0.7,), 1.0)]
    options = replace(TWO_PHASES, epochs=2, topology_epochs=2, validate_every=1)
    held_back = [ring_case(20, prior=held_back_prior)]
    states = States()
    for state, later in ((None, scores), (1, scores[2:])):
        answers = iter(later)
        monkeypatch.setattr(training, "validate", lambda *args, a=answers: next(a))
        result = train(
            [*labelled, *unlabelled],
            held_back,
            RING,
            options,
            CPU,
            on_epoch=states,
            state=None if state is None else states[state],
        )
        assert [epoch.best for epoch in result.history] == pytest.approx([0.45, 0.8, 0.8, 0.85])
        assert result.best_epoch == 4


def test_without_any_prior_dice_alone_decides(labelled, monkeypatch):
    answers = iter([Scores((0.9,), 0.0), Scores((0.6,), 1.0)])
    monkeypatch.setattr(training, "validate", lambda *args: next(answers))
    options = replace(TWO_PHASES, epochs=2, validate_every=1)
    assert train(labelled, [ring_case(20)], RING, options, CPU).best_epoch == 1


@pytest.fixture(scope="module")
def undisturbed(labelled, unlabelled, held_back):
    """A training in two phases, and its state after every epoch."""
    states = States()
    result = train(
        [*labelled, *unlabelled],
        held_back,
        RING,
        TWO_PHASES,
        CPU,
        on_epoch=states,
    )
    return result, states


def assert_same(first: TrainingResult, second: TrainingResult) -> None:
    """Bit for bit, but for the time it took."""
    assert timeless(first.history) == timeless(second.history)
    assert first.best_epoch == second.best_epoch
    theirs = tensors_of(second.network)
    for name, value in tensors_of(first.network).items():
        assert torch.equal(value, theirs[name]), name


def assert_same_state(first: TrainingState, second: TrainingState) -> None:
    def place(state: TrainingState) -> tuple[object, ...]:
        return state.phase, state.begun, state.updates, state.best_epoch, state.best, timeless(state.history)

    assert place(first) == place(second)
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        assert torch.equal(value, second.tensors[name]), name


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5])
def test_an_interrupted_training_goes_on_bit_for_bit(
    epochs, undisturbed, labelled, unlabelled, held_back, tmp_path
):
    """In the first phase, at its end, and in the second, each time in the midst of an epoch."""
    cases, file = [*labelled, *unlabelled], tmp_path / "state.safetensors"
    result, states = undisturbed

    def stop_later(epoch: Epoch) -> None:
        if epoch.number > epochs:
            raise Stop

    with pytest.raises(Stop):
        train(
            cases,
            held_back,
            RING,
            TWO_PHASES,
            CPU,
            on_step=stop_later,
            on_epoch=lambda state: save_state(file, state, {}),
        )
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002 - the global generator, which must not matter
    stored = load_state(file, {})
    assert len(stored.history) == epochs
    assert_same_state(stored, states[epochs - 1])
    later = States()
    resumed = train(cases, held_back, RING, TWO_PHASES, CPU, on_epoch=later, state=stored)
    assert_same(resumed, result)
    assert len(later) == 6 - epochs
    for now, then in zip(later, states[epochs:], strict=True):
        assert_same_state(now, then)


def test_a_training_that_is_over_returns_at_once(undisturbed, labelled, unlabelled, held_back, monkeypatch):
    result, states = undisturbed

    def refuse(*args):
        raise AssertionError("there was nothing left to do")

    monkeypatch.setattr(training, "validate", refuse)
    again = train(
        [*labelled, *unlabelled],
        held_back,
        RING,
        TWO_PHASES,
        CPU,
        on_step=refuse,
        on_best=refuse,
        on_epoch=refuse,
        state=states[-1],
    )
    assert_same(again, result)
    assert again.seconds >= states[-1].seconds


def test_volumes_go_on_bit_for_bit(tmp_path):
    cases = [ball_case(SOLID, 16, seed) for seed in range(3)]
    options = TrainingOptions(epochs=3, batch_size=1, learning_rate=1e-2, validate_every=1)
    states = States()
    result = train(cases[:2], cases[2:], SOLID, options, CPU, on_epoch=states)
    assert result.history[0].steps == 2

    def save_first(state: TrainingState) -> None:
        save_state(tmp_path / "state.safetensors", state, {})
        raise Stop

    with pytest.raises(Stop):
        train(cases[:2], cases[2:], SOLID, options, CPU, on_epoch=save_first)
    stored = load_state(tmp_path / "state.safetensors", {})
    assert_same(train(cases[:2], cases[2:], SOLID, options, CPU, state=stored), result)


def test_patience_is_counted_across_an_interruption(discs, monkeypatch):
    scores = [0.5, 0.4, 0.3, 0.2, 0.9]
    options = TrainingOptions(epochs=9, batch_size=4, patience=3, validate_every=1, augment=False)
    states = States()
    for state, stretch in ((None, scores), (2, scores[2:])):
        answers = iter(stretch)
        monkeypatch.setattr(training, "validate", lambda *args, a=answers: Scores((next(a),), 0.0))
        result = train(
            discs[:1],
            discs[9:10],
            FLAT,
            options,
            CPU,
            on_epoch=states,
            state=None if state is None else states[state - 1],
        )
        assert (len(result.history), result.best_epoch) == (4, 1)


def test_a_state_in_a_phase_that_there_is_no_longer_is_refused(undisturbed, labelled, held_back):
    """Its unlabelled cases have been given labels since, so that there is no topology left to learn."""
    _, states = undisturbed
    seen: list[Epoch] = []
    with pytest.raises(InvalidCheckpoint) as caught:
        train(labelled, held_back, RING, TWO_PHASES, CPU, on_step=seen.append, state=states[3])
    assert str(caught.value) == (
        "--resume: expected a training of the same request to go on with, found a state in its phase "
        "'topology', now there is only 'labels'"
    )
    assert not seen


def test_time_is_counted_across_an_interruption(undisturbed, labelled, unlabelled, held_back):
    _, states = undisturbed
    late = replace(states[4], seconds=1000.0)
    result = train([*labelled, *unlabelled], held_back, RING, TWO_PHASES, CPU, state=late)
    assert 1000 < result.history[-1].seconds <= result.seconds < 1100
    assert result.history[-1].remaining == 0
