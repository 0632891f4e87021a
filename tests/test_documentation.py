"""What the pages name is there: links, settings, options, commands; their examples run."""

import itertools
import re
import runpy
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from flows.cli import app
from flows.settings import build_ablation, build_config, parse_assignment
from nv_retriever.data.pair_columns import ROLES
from nv_retriever.plan.config import PipelineConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "ablation" / "README.md"]
RECORDS = {"log.md", "decisions.md"}
"""They say what was true on their day."""
LIVING = [page for page in PAGES if page.name not in RECORDS]
identified = pytest.mark.parametrize("page", LIVING, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """Return the addresses of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@identified
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def commands_in(page: Path) -> list[list[str]]:
    """Return the arguments of every `nvr …` in a page's code, without comments."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    code = [*re.findall(r"^    (nvr .*)$", text, re.MULTILINE), *re.findall(r"`(nvr [^`]*)`", text.replace("\n", " "))]
    return [shlex.split(line.split(" ·")[0], comments=True)[1:] for line in code]


@identified
def test_commands_are_understood(page):
    group = typer.main.get_command(app)
    for name, *arguments in commands_in(page):
        if name in ("COMMAND", "--help", "again"):
            continue
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        for argument in (one for one in arguments if one.startswith("--")):
            assert argument in known | {"--help"}, f"nvr {name} {argument}"
        for option, value in itertools.pairwise(arguments):
            if option == "--set" and value != "a.b=value":
                assert is_setting(parse_assignment(value)[0]), value


def is_setting(path: list[str]) -> bool:
    """Return whether a path names a setting of the pipeline or a group of them."""
    schema = PipelineConfig.model_json_schema()
    nodes = [schema]
    for key in path:
        nodes = [inner for node in nodes for inner in below(node, key, schema["$defs"])]
    return bool(nodes)


def below(node: dict, key: str, definitions: dict) -> list[dict]:
    """Return what stands below a key in a JSON schema."""
    if "$ref" in node:
        return below(definitions[node["$ref"].rsplit("/", 1)[-1]], key, definitions)
    if key.isdigit() and "items" in node:
        return [node["items"]]
    found = [node["properties"][key]] if key in node.get("properties", {}) else []
    found += [node["additionalProperties"]] if isinstance(node.get("additionalProperties"), dict) else []
    return found + [one for option in node.get("anyOf", []) for one in below(option, key, definitions)]


def test_settings_are_told_from_what_is_none():
    assert is_setting(["teachers", "1", "encoder", "pooling"]) and is_setting(["dataset", "columns", "query"])
    assert is_setting(["blend", "sources", "3", "source"]) and not is_setting(["training", "epoch"])


@identified
def test_paths_of_settings_in_the_text_are_settings(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for path in re.findall(rf"`((?:{'|'.join(PipelineConfig.model_fields)})(?:\.\w+)+)(?:[:=][^`]*)?`", text):
        keys = ["0" if key == "N" else key for key in path.split(".")]
        is_module = (ROOT / "nv_retriever" / keys[0] / f"{keys[1]}.py").exists()
        assert is_module or is_setting(keys) or path.endswith((".md", ".json", ".yaml", ".jsonl")), path


def test_the_page_of_settings_is_made_from_the_code():
    made = runpy.run_path(str(ROOT / "docs" / "configuration.py"))["page"]()
    assert made.markdown() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_every_variable_of_the_environment_is_read_somewhere_and_the_other_way_round():
    named = set(re.findall(r"`(NVR_\w+)`", (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")))
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "nv_retriever").rglob("*.py")))
    assert named == set(re.findall(r"\"(NVR_\w+)\"", code))


def block(page: str, language: str) -> str:
    """Return the first block of a language in a page."""
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_of_the_library_runs():
    names: dict = {}
    exec(block("README.md", "python"), names)
    result = names["result"]
    assert len(result.negative) == 12 and set(result.query.tolist()) == {0, 1}


def indented(page: str, first: str) -> dict:
    """Return the settings of an indented example, from its first line on."""
    text = (ROOT / page).read_text(encoding="utf-8")
    example = text[text.index(f"    {first}") :].partition("\n\n")[0]
    return yaml.safe_load(example)


def test_yaml_in_the_pages_is_a_configuration():
    config = build_config(indented("docs/configuration.md", "dataset: {"), "configuration.md")
    assert config.training.early_stopping is not None and len(config.teachers) == 2
    tree = indented("docs/evaluation.md", "dataset: {")
    study = build_ablation(build_config({"dataset": tree.pop("dataset")}, "evaluation.md"), tree.pop("ablation"))
    assert not tree and study.methods[-1] == "oracle" and len(study.seeds) == 3


def test_the_page_of_data_names_every_column():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {role: tuple(names.partition(";")[0].split(", ")) for role, names in rows} == ROLES
