"""Processes that train together: their shares make up the whole, and their weights stay the same."""

import json
import os
import runpy
import subprocess
import sys

import pytest
import torch
from torch import nn

from topofix.errors import InvalidOption
from topofix.learning import distributed
from topofix.learning.distributed import ALONE, World, is_first, joined

CPU = torch.device("cpu")
SIZES = [1, 2, 3, 5]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", range(8))
def test_shares_make_up_the_whole_and_hold_nothing_twice(size, count):
    items = list(range(count))
    shares = [World(rank, size).share(items) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", range(1, 8))
def test_nobody_goes_without_a_share_of_a_batch(size, count):
    """A process without a step would keep the others waiting for its gradients."""
    batch = list(range(count))
    shares = [World(rank, size).share_of_batch(batch) for rank in range(size)]
    assert {item for share in shares for item in share} == set(batch)
    assert all(shares)
    if count >= size:
        assert shares == [World(rank, size).share(batch) for rank in range(size)]
    else:
        assert [len(share) for share in shares] == [1] * size


def test_a_process_alone_sums_nothing_and_joins_nothing():
    values, network = torch.tensor([1.5, 2.5], dtype=torch.float64), nn.Conv2d(1, 1, 1)
    assert torch.equal(ALONE.total(values), values)
    assert ALONE.join(network) is network
    assert ALONE.share_of_batch([3, 1, 2]) == ALONE.share([3, 1, 2]) == [3, 1, 2]


@pytest.mark.parametrize(("rank", "first"), [(None, True), ("0", True), ("1", False), ("10", False)])
def test_the_first_process_is_the_one_that_speaks(rank, first, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert is_first() == first


@pytest.mark.parametrize("size", [None, "1"])
def test_without_torchrun_or_with_one_process_there_is_nothing_to_join(size, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    with joined(CPU) as (world, device):
        assert (world, device) == (ALONE, CPU)
        assert not torch.distributed.is_initialized()


def test_several_processes_need_cpus_or_cuda(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "--device: expected cpu or cuda for several processes, got mps"
    with pytest.raises(InvalidOption, match=message), joined(torch.device("mps")):
        pass


def test_every_process_needs_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(distributed.torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InvalidOption, match="at most one process per GPU, found 2 GPUs for process 2"):
        joined(torch.device("cuda")).__enter__()


SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from topofix.learning.dataset import make_case
from topofix.learning.distributed import World, joined
from topofix.learning.network import NetworkConfig, tensors_of
from topofix.learning.training import train
from topofix.records import TrainingOptions
from topofix.topology.priors import Prior

config = NetworkConfig(2, ("box",), (1.0, 1.0), (16, 16), channels=(4, 4, 4))

def case(seed, drawn=True, prior=None):
    random = np.random.default_rng(seed)
    label = np.zeros((20, 20), np.uint8)
    row, column = random.integers(2, 9, 2)
    label[row : row + 8, column : column + 9] = 1
    image = label + 0.3 * random.normal(size=label.shape)
    priors = {None: Prior.parse(prior)} if prior else {}
    return make_case(str(seed), image, label if drawn else None, (1.0, 1.0), ((0, 1), ()), config, priors)

def gradient(world):
    line = torch.nn.Linear(1, 1)
    network = world.join(line)
    with world.adding(network):
        for _ in range(1 + world.rank):  # they need not add equally often
            network(torch.ones(1, 1)).sum().backward()
    network(torch.ones(1, 1)).sum().backward()
    return line.weight.grad.item()

labelled, held_back = [case(seed) for seed in range(5)], [case(seed, prior="1,0") for seed in range(9, 12)]
free = [case(19, drawn=False, prior="*,*"), case(20, drawn=False, prior="1,0")]
options = TrainingOptions(epochs=2, topology_epochs=2, batch_size=2, learning_rate=1e-2, validate_every=1)
with joined(torch.device("cpu")) as (world, device):
    states, cases = [], [*labelled, *free]
    result = train(cases, held_back, config, options, device, on_epoch=states.append, world=world)
    weights = {k: v for k, v in states[-1].under("network/").items() if isinstance(v, torch.nn.Parameter)}
    found = {
        "gradient": gradient(world),
        "size": world.size,
        "sum": world.total(torch.tensor([world.rank + 1.0])).item(),
        "weights": [v.double().sum().item() for v in weights.values()],
        "history": [[e.loss, e.topological_loss, *e.dice, e.right, e.best] for e in result.history],
        "steps": [e.steps for e in result.history],
        "best": result.best_epoch,
        "names": sorted(tensors_of(result.network)),
    }
tasks = Path("/proc/self/task")  # where Linux lists threads
names = [(task / "comm").read_text().strip() for task in tasks.iterdir()] if tasks.is_dir() else []
found["left"] = [name for name in names if "gloo_runloop" in name]
Path(sys.argv[1], f"{world.rank}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    """What each of two processes found that trained together on CPUs, and last what one alone did."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, script, folder], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), str(folder)])
        runpy.run_path(str(script))
    return [*found, json.loads((folder / "0.json").read_text())]


def test_two_processes_keep_the_same_weights(two):
    first, second, _ = two
    assert first["size"] == second["size"] == 2
    assert first["sum"] == second["sum"] == 3
    assert first["weights"] == second["weights"]
    assert first["history"] == second["history"], "they would not stop at the same epoch"
    assert first["best"] == second["best"]


def test_gradients_that_were_added_up_are_averaged_once(two):
    assert [one["gradient"] for one in two] == [2.5, 2.5, 2]


def test_two_processes_do_the_work_of_one(two):
    """The same steps on the same patches: losses agree but for the statistics of a half and a whole batch."""
    first, _, alone = two
    assert alone["size"] == 1
    assert first["steps"] == alone["steps"] == [3] * 4
    assert first["names"] == alone["names"]
    losses, expected = (torch.tensor([row[0] for row in one["history"]]) for one in (first, alone))
    assert torch.allclose(losses, expected, rtol=0.25)


def test_the_threads_of_two_processes_end_with_the_training(two):
    """Those still at work when Python ends abort it, now and then, and torchrun calls the training failed."""
    assert [one["left"] for one in two] == [[], [], []]
