"""The house rules, read off the source: who imports whom, and what is used nowhere or in one place only."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import topofix

ROOT = Path(__file__).parent.parent

# The layers of topofix from the top. A module may import from its own layer and from all that come later,
# except from those named here. No modules import each other in a circle.
LAYERS: dict[str, set[str]] = {
    "__main__": set(),
    "cli": set(),
    "terminal": set(),
    "typed": set(),
    "options": set(),
    "batch": set(),
    "workers": set(),
    "tasks": set(),
    "jobs": set(),
    "summary": set(),
    "interruption": set(),
    "cohort": set(),
    "transforms": set(),
    "api": set(),
    "pipeline": set(),
    "resume": set(),
    "refined": set(),
    "training_run": set(),
    "outputs": set(),
    "drawings": set(),
    "scenes": set(),
    "measurement": set(),
    "account": set(),
    "correction": set(),
    "part": set(),
    "prediction": set(),
    "reporting": set(),
    "request": set(),
    "learning": {"imaging"},
    "imaging": {"topology", "records"},
    "topology": {"records"},
    "records": set(),
    "outcomes": set(),
    "limits": set(),
    "errors": set(),
    "": set(),  # topofix/__init__.py: the version
}
WITHOUT_TORCH = {"imaging", "topology", "request", "records", "outcomes", "limits", "errors", ""}
TORCH = {"torch", "monai"}

# What only these modules may use.
ONLY_IN: dict[str, set[str]] = {
    "typer": {f"topofix.{name}" for name in ("cli", "options", "terminal", "typed")},
    "rich.console": {"topofix.cli", "topofix.terminal"},
    "rich.get_console": {"topofix.cli", "topofix.terminal"},
    "rich.live": {"topofix.cli", "topofix.terminal"},
    "rich.print": {"topofix.cli", "topofix.terminal"},
    "rich.progress": {"topofix.cli", "topofix.terminal"},
    "print": {"topofix.cli", "topofix.terminal"},
    "exit": {"topofix.cli", "topofix.terminal"},
    "quit": {"topofix.cli", "topofix.terminal"},
    "sys.exit": {"topofix.cli", "topofix.terminal"},
    "os._exit": {"topofix.cli", "topofix.terminal"},
    "SystemExit": {"topofix.cli", "topofix.terminal"},
    "topofix.topology._kernel": {
        f"topofix.topology.{name}" for name in ("persistence", "partition", "features")
    },
    "torch.jit.load": {"topofix.learning.foreign"},  # both run what a stranger's file says
    "torch.export.load": {"topofix.learning.foreign"},
}
# What runs code that a file or a user brings along.
NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "os.system", "os.popen"}
NEVER |= {"torch.load", "yaml.load", "yaml.unsafe_load", "eval", "exec"}
# But one module reads bare weights, and each of its calls says that no object may be unpickled.
WEIGHTS_ONLY_IN = "topofix.learning.foreign"
# What our own kernel does faster, and with places.
NEVER |= {"gudhi.CubicalComplex", "gudhi.PeriodicCubicalComplex", "gudhi.cubical_complex", "cripser"}
NEVER_TRUE = {"shell", "allow_pickle"}
NAMES_THAT_SAY_NOTHING = {"util", "utils", "common", "helper", "helpers", "core", "base", "misc", "managers"}

HEAVY = {"torch", "monai", "matplotlib", "nibabel", "SimpleITK", "gudhi", "scipy"}

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
    for path in sorted((ROOT / "topofix").rglob("*.py"))
}
SCRIPTS = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "sample_data").glob("*.py"))}


def bindings(source: str) -> dict[str, str]:
    """What each imported name stands for, with its dots: `import a.b` binds `a.b` to itself."""
    bound = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            bound |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            bound |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}
    return bound


def our_imports(module: str, source: str, modules: set[str]) -> set[str]:
    """The modules of topofix that a module imports, wherever in its source."""
    names = [name for name in bindings(source).values() if name.split(".")[0] == "topofix"]
    return {name if name in modules else name.rpartition(".")[0] for name in names} - {module}


def layer(module: str) -> str:
    """`topology` for `topofix.topology.priors`, nothing for `topofix`."""
    return module.partition(".")[2].partition(".")[0]


def may_import(upper: str, lower: str) -> bool:
    """Whether one layer may import another, or itself."""
    order = list(LAYERS)
    return lower in order[order.index(upper) :] and lower not in LAYERS[upper]


def dotted(node: ast.expr) -> str:
    """`a.b.c` as text; nothing for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def uses(source: str) -> set[str]:
    """Imported and written names, each with all its beginnings: `a`, `a.b`, `a.b.c`."""
    bound = bindings(source)
    nodes = ast.walk(ast.parse(source))
    names = {dotted(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}
    parts = [name.split(".") for name in names | set(bound.values())]
    parts += [[*bound[first].split("."), *rest] for first, *rest in parts if first in bound]
    return {".".join(some[:count]) for some in parts for count in range(1, len(some) + 1)}


def violations(module: str, source: str, modules: set[str]) -> list[str]:
    """What a module of topofix does against the rules, a sentence each."""
    own = layer(module)
    if own not in LAYERS:
        return [f"{module} belongs to none of the layers that {Path(__file__).name} lists"]
    used = uses(source)
    foreign = [
        name for name in sorted(our_imports(module, source, modules)) if not may_import(own, layer(name))
    ]
    return [
        *(f"{module} imports {name}, which LAYERS does not allow" for name in foreign),
        *(f"{module} imports {name} relatively" for name in bindings(source).values() if name[0] == "."),
        *(f"{module} uses {name}" for name in sorted(used & TORCH) if own in WITHOUT_TORCH),
        *(f"{module} uses {name}" for name in sorted(used & ONLY_IN.keys()) if module not in ONLY_IN[name]),
        *(f"{name} in {module} says nothing" for name in module.split(".") if name in NAMES_THAT_SAY_NOTHING),
        *unsafe(module, source),
    ]


def unsafe(module: str, source: str) -> list[str]:
    """Where a module would run code that is not its own."""
    keywords = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.keyword)]
    opened = [ast.unparse(node) for node in keywords if node.arg in NEVER_TRUE]
    allowed = {"torch.load"} if module == WEIGHTS_ONLY_IN and loads_weights_only(source) else set()
    return [
        *(f"{module} uses {name}" for name in sorted(uses(source) & (NEVER - allowed))),
        *(f"{module} passes {text}" for text in opened if not text.endswith("=False")),
    ]


def loads_weights_only(source: str) -> bool:
    """Whether `torch.load` is written in no other way than as a call with `weights_only=True`."""
    tree = ast.parse(source)
    bound = bindings(source)
    careful = {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
    }
    mentions = {
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        for first, _, rest in [dotted(node).partition(".")]
        if f"{bound.get(first, first)}.{rest}".rstrip(".") == "torch.load"
    }
    return mentions <= careful and "torch.load" not in bound.values()


def circle(sources: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle; none if there is no circle."""
    graph = {module: our_imports(module, source, set(sources)) for module, source in sources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def loaded(*arguments: str) -> set[str]:
    """The top-level packages that a Python process imports; it has to succeed."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_keeps_the_rules(module):
    assert violations(module, SOURCES[module], set(SOURCES)) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_sample_script_runs_no_foreign_code(script):
    assert unsafe(script, SCRIPTS[script]) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("topofix.topology.priors", "from topofix.records import Record"),
        ("topofix.topology.priors", "from topofix import records"),
        ("topofix.topology.priors", "from ..records import Record"),
        ("topofix.topology.priors", "import topofix.imaging.volumes as volumes"),
        ("topofix.topology.priors", "def later():\n    import torch.nn"),
        ("topofix.imaging.volumes", "from monai import transforms"),
        ("topofix.imaging.volumes", "from topofix.topology import priors"),
        ("topofix.learning.loss", "from topofix.imaging.volumes import read"),
        ("topofix.learning.loss", "from topofix import pipeline, errors"),
        ("topofix.learning.loss", "if TYPE_CHECKING:\n    from topofix.cli import app"),
        ("topofix.learning.loss", "from topofix.topology import _kernel"),
        ("topofix.learning.loss", "import topofix.topology._kernel as kernel"),
        ("topofix.topology.persistence", "from gudhi import CubicalComplex"),
        ("topofix.topology.persistence", "import gudhi\ngudhi.CubicalComplex(vertices=field)"),
        ("topofix.learning.loss", "state = torch.load(path)"),
        ("topofix.learning.loss", "from torch import load"),
        ("topofix.learning.loss", "torch.load(path, weights_only=True)"),
        ("topofix.learning.network", "import torch\ntorch.load(path, weights_only=True)"),
        ("topofix.learning.network", "import torch\ntorch.jit.load(path)"),
        ("topofix.learning.network", "from torch.export import load"),
        ("topofix.learning.foreign", "import torch\ntorch.load(path)"),
        ("topofix.learning.foreign", "import torch\ntorch.load(path, weights_only=False)"),
        ("topofix.learning.foreign", "import torch\ntorch.load(path, weights_only=safe)"),
        ("topofix.learning.foreign", "import torch\ntorch.load(path, **{'weights_only': True})"),
        ("topofix.learning.foreign", "import torch\ntorch.load(a, weights_only=True)\ntorch.load(b)"),
        ("topofix.learning.foreign", "import torch\nread = torch.load"),
        ("topofix.learning.foreign", "import torch as t\nt.load(path)"),
        ("topofix.learning.foreign", "from torch import load\nload(path, weights_only=True)"),
        ("topofix.learning.foreign", "import pickle\npickle.load(file)"),
        ("topofix.learning.loss", "import torch as t\nt.load(path)"),
        ("topofix.topology.persistence", "from gudhi.cubical_complex import CubicalComplex"),
        ("topofix.records", "from topofix.pipeline import refine"),
        ("topofix.errors", "from topofix.records import Record"),
        ("topofix", "from topofix.pipeline import refine"),
        ("topofix.pipeline", "from rich.console import Console"),
        ("topofix.pipeline", "from rich import print as show"),
        ("topofix.pipeline", "import typer"),
        ("topofix.pipeline", "print('done')"),
        ("topofix.pipeline", "import sys\nsys.exit(1)"),
        ("topofix.pipeline", "raise SystemExit"),
        ("topofix.pipeline", "import pickle"),
        ("topofix.pipeline", "from yaml import load"),
        ("topofix.pipeline", "eval('1')"),
        ("topofix.pipeline", "exec('1')"),
        ("topofix.pipeline", "subprocess.run(command, shell=True)"),
        ("topofix.pipeline", "subprocess.run(command, shell=wanted)"),
        ("topofix.pipeline", "np.load(path, allow_pickle=True)"),
        ("topofix.learning.utils", ""),
        ("topofix.helpers.volumes", ""),
        ("topofix.extra", ""),
    ],
)
def test_a_violation_is_found(module, source):
    assert violations(module, source, {*SOURCES, "topofix.pipeline", "topofix.cli"})


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("topofix.cli", "import sys, typer\nfrom rich.console import Console\nprint(1)\nsys.exit(2)"),
        ("topofix.pipeline", "from topofix import __version__\nfrom topofix.topology import priors"),
        ("topofix.learning.network", "model.eval()\nnp.load(path, allow_pickle=False)"),
        ("topofix.learning.foreign", "torch.jit.load(path)\ntorch.export.load(path)"),
        ("topofix.learning.foreign", "import torch\nfound = torch.load(path, weights_only=True)"),
        ("topofix.learning.training", "from topofix.learning import loss\nprinted = 'print(1)'  # eval('1')"),
        ("topofix.topology.persistence", "from topofix.topology import _kernel"),
        ("topofix.reporting", "from rich.table import Table"),
    ],
)
def test_what_is_allowed_is_not_refused(module, source):
    assert violations(module, source, set(SOURCES)) == []


def test_a_circle_is_found():
    sources = {"topofix.a": "from topofix import b", "topofix.b": "def f():\n    from topofix.c import x"}
    assert circle(sources | {"topofix.c": "import topofix.d"}) == []
    assert {"topofix.a", "topofix.b", "topofix.c"} == set(circle(sources | {"topofix.c": "import topofix.a"}))


def test_the_command_line_is_imported_without_heavy_packages():
    assert not HEAVY & loaded("-c", "import topofix.cli")


@pytest.mark.parametrize("command", [[], ["train"], ["segment"], ["refine"], ["barcode"]], ids=" ".join)
def test_help_answers_without_heavy_packages(command):
    assert not HEAVY & loaded("-m", "topofix", *command, "--help")


def test_the_changelog_begins_with_this_version():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    assert headings[0] == topofix.__version__
