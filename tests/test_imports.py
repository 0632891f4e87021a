"""Imports go one way, and what starts fast stays fast."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ["nv_retriever", "tasks", "flows", "deployments"]
HEAVY = {"torch", "transformers", "sentence_transformers", "mlflow", "prefect", "faiss", "datasets", "pandas", "ir_measures"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer):
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    # The command line is the door: `nvr serve` hands over to the deployments.
    exceptions = {("flows/cli.py", "deployments")}
    wrong = {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / layer).rglob("*.py")
        for name in imported(path) & (above | ({"prefect", "mlflow"} if layer == "nv_retriever" else set()))
    }
    assert wrong - exceptions == set()


def test_inside_the_library_too():
    ranks = [
        {"data", "report"},
        {"search"},
        {"embedding", "teachers"},
        {"mining"},
        {"store", "audit", "training", "evaluation"},
        {"plan"},
    ]
    rank = {package: number for number, packages in enumerate(ranks) for package in packages}
    wrong = {
        (str(path.relative_to(ROOT)), found)
        for package in rank
        for path in (ROOT / "nv_retriever" / package).rglob("*.py")
        for found in re.findall(r"^\s*from nv_retriever\.(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found in rank and found != package and rank[found] >= rank[package] and ranks[2] != {found, package}
    }
    assert wrong == set()


def test_only_one_module_imports_mlflow():
    files = [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py") if "mlflow" in imported(path)]
    assert [str(path.relative_to(ROOT)) for path in files] == ["tasks/tracking/client.py"]


@pytest.mark.parametrize("module", ["flows.cli", "nv_retriever", "nv_retriever.plan.pipeline", "nv_retriever.plan.stages"])
def test_import_is_light(module):
    code = f"import sys, {module}; print(*(set(sys.modules) & {HEAVY!r}))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == ""


def test_every_dependency_has_its_reason_in_the_docs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    names = {re.split(r"[\[<>=]", one)[0] for one in wanted} - {project["name"]}
    table = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Dependencies")[2]
    told = {name for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in row.split(", ")}
    assert told - {"package"} == names


def test_type_checkers_of_others_see_the_librarys_types():
    assert (ROOT / "nv_retriever" / "py.typed").is_file()
