"""No source of topofix runs code from a file, and what SECURITY.md points to is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "topofix").rglob("*.py"))

BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),  # objects
    *("yaml", "ruamel"),
    *("subprocess", "pty", "ctypes", "cffi", "runpy", "code"),  # other code
    *("urllib", "http", "requests", "ftplib", "smtplib", "telnetlib", "xmlrpc"),  # connections
}
HARMLESS = {"urllib.parse"}
CALLS = {
    *(
        "os.system",
        "os.popen",
        "os.startfile",
        "os.execv",
        "os.execve",
        "os.execvp",
        "os.spawnv",
        "os.spawnl",
    ),
    *("torch.hub.load", "torch.utils.model_zoo.load_url", "numpy.fromregex", "pandas.read_pickle"),
}
NEEDED = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "numpy.lib.format.read_array": ("allow_pickle", False),
}
FORBIDDEN = {"shell": True, "allow_pickle": True}


def names(tree: ast.Module) -> dict[str, str]:
    """What each name in a module was imported as."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else ""
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def dotted(node: ast.expr, known: dict[str, str]) -> str:
    """`numpy.load` for `np.load`; nothing for what is no name."""
    if isinstance(node, ast.Name):
        return known.get(node.id) or node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value, known)):
        return f"{before}.{node.attr}"
    return ""


def dangers(source: str) -> list[str]:
    """What in a source could run code from a file, start another program or open a connection."""
    tree = ast.parse(source)
    known = names(tree)
    found = []
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        unsafe = [module for module in modules if module.split(".")[0] in MODULES]
        found += [f"imports {module}" for module in unsafe if module not in HARMLESS]
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in BUILTINS:
            found.append(f"uses {node.id}")
        if isinstance(node, ast.Name | ast.Attribute) and dotted(node, known) in CALLS:
            found.append(f"uses {dotted(node, known)}")
        if isinstance(node, ast.Call):
            said = {word.arg: ast.unparse(word.value) for word in node.keywords}
            found += [f"says {word}={said[word]}" for word in FORBIDDEN if said.get(word, "False") != "False"]
            name = dotted(node.func, known)
            word, value = NEEDED.get(name, ("", None))
            if word and said.get(word) != str(value):
                found.append(f"calls {name} without {word}={value}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_runs_nothing_that_a_file_brings_along(path):
    assert dangers(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("eval(text)", "uses eval"),
        ("run = exec", "uses exec"),
        ("compile(text, '', 'eval')", "uses compile"),
        ("import pickle", "imports pickle"),
        ("def later():\n    from pickle import loads", "imports pickle"),
        ("import pickle as safe", "imports pickle"),
        ("from yaml import safe_load", "imports yaml"),
        ("import subprocess", "imports subprocess"),
        ("from urllib.request import urlopen", "imports urllib.request"),
        ("import os\nos.system(text)", "uses os.system"),
        ("from os import system\nsystem(text)", "uses os.system"),
        ("import os as o\nrun = o.popen", "uses os.popen"),
        ("run(words, shell=True)", "says shell=True"),
        ("run(words, shell=wanted)", "says shell=wanted"),
        ("import torch\ntorch.load(path)", "calls torch.load without weights_only=True"),
        ("import torch\ntorch.load(path, weights_only=False)", "calls torch.load without weights_only=True"),
        ("import torch\ntorch.load(path, weights_only=safe)", "calls torch.load without weights_only=True"),
        ("from torch import load\nload(path)", "calls torch.load without weights_only=True"),
        ("import numpy as np\nnp.load(path)", "calls numpy.load without allow_pickle=False"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "says allow_pickle=True"),
        ("import torch\ntorch.hub.load('a', 'b')", "uses torch.hub.load"),
    ],
)
def test_a_danger_is_found(source, says):
    assert says in dangers(source)


@pytest.mark.parametrize(
    "source",
    [
        "network.eval()",
        "re.compile(text)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "text = 'eval(1)'  # exec",
        "import json, tomllib\njson.loads(text)",
        "from urllib.parse import quote",
    ],
)
def test_what_is_harmless_is_no_danger(source):
    assert dangers(source) == []


def test_what_the_page_on_security_points_to_is_there():
    page, makefile = (ROOT / "SECURITY.md").read_text("utf-8"), (ROOT / "Makefile").read_text("utf-8")
    named = re.findall(r"`(tests[/\w.]*|fuzz|constraints\.txt)`", page)
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []
    targets = re.findall(r"`make ([\w-]+)`", page)
    assert len(targets) >= 5
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_the_limits_on_that_page_are_those_of_the_source():
    from topofix import limits
    from topofix.imaging import bounds, constraints, spreadsheets
    from topofix.learning import description

    page = (ROOT / "SECURITY.md").read_text("utf-8")
    assert limits.MOST_VOXELS == 2**28
    assert "2^28" in page
    assert (bounds.MOST_BYTES, spreadsheets.MOST_ROWS) == (32 * 2**20, 2**20)
    assert "32 MiB and 2^20 rows" in page
    assert constraints.MOST_BYTES == description.MOST_BYTES == 256 * 2**10
    assert "256 KiB" in page
