"""Damaged and hostile inputs are read, or refused with one sentence, and leave nothing behind.

A couple of hundred of them in `make test`; with TOPOFIX_FAULTS=full, as in `make test-faults`, ten thousand,
whose table is written to `benchmarks/`.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from faults import hostile_commands, hostile_table
from faults.hostile_runner import Result

ROOT = Path(__file__).resolve().parents[2]
FULL = os.environ.get("TOPOFIX_FAULTS") == "full"
COUNT, COMMANDS = (10_000, 40) if FULL else (200, 2)
SEED = 1

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="watches processes by Linux's /proc"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What a process of its own found: an input may take it with it."""
    folder = tmp_path_factory.mktemp("hostile")
    words = ("--count", str(COUNT), "--seed", str(SEED), "--json", "results.json", "--originals", "originals")
    subprocess.run(
        [sys.executable, "-m", "faults.hostile_runner", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def results(folder) -> list[Result]:
    """What became of every input."""
    return [Result(**each) for each in json.loads((folder / "results.json").read_text())]


@pytest.fixture(scope="module")
def ended(folder, results) -> list[hostile_commands.Ended]:
    """How the real command ended on the worst of them."""
    originals = pickle.loads((folder / "originals").read_bytes())
    return [
        hostile_commands.run(result, SEED, folder / str(result.number), originals)
        for result in hostile_commands.worst(results, COMMANDS)
    ]


def test_every_input_is_read_or_refused_and_nothing_else_happens(results):
    assert len(results) == COUNT
    faults = [f"{result}\n{result.message}" for result in results if result.faults]
    assert not faults, "\n".join(faults)


def test_whole_and_damaged_inputs_are_told_apart(results):
    outcomes = {result.outcome for result in results}
    assert outcomes == {"read", "refused"}


def test_the_command_says_one_sentence(ended):
    assert len(ended) == COMMANDS
    faults = [f"{one.result}: {one.fault}\n{one.errors}" for one in ended if one.fault]
    assert not faults, "\n".join(faults)


@pytest.mark.skipif(not FULL, reason="the table is of all inputs; set TOPOFIX_FAULTS=full")
def test_the_table_is_written(results, ended):
    hostile_table.write(ROOT / "benchmarks", results, ended, SEED)
