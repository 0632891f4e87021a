"""From YAML, `--set` and options to one validated configuration."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from nv_retriever.errors import InputError, first_line
from nv_retriever.plan.ablation import AblationConfig, alone
from nv_retriever.plan.config import PipelineConfig

Tree = dict[str, Any]


def load_config(path: Path, above: tuple[Path, ...] = ()) -> Tree:
    """Return the settings of a YAML file over those of the file that its key `extends` names, relative to it."""
    tree = load_yaml(path)
    if path.resolve() in above:
        raise InputError(f"{path}: extends", "a file that does not come back to itself", " -> ".join(map(str, above)))
    base = tree.pop("extends", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise InputError(f"{path}: extends", "the path of another configuration file", repr(base))
    result: Tree = merged(load_config(path.parent / base, (*above, path.resolve())), tree, str(path))
    return result


def merged(base: Any, over: Any, where: str) -> Any:
    """Return `over` laid on `base`: groups are merged, a group of numbers changes elements of a list, all else replaces.

    >>> merged({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": {1: 3}}}, "x.yaml")
    {'a': {'b': 1, 'c': [1, 3]}}
    """
    if not isinstance(over, dict):
        return over
    if isinstance(base, list) and over and all(isinstance(key, int) for key in over):
        result = list(base)
        for key, value in over.items():
            if not 0 <= key < len(result):
                raise InputError(where, f"a position below {len(result)}", str(key))
            result[key] = merged(result[key], value, where)
        return result
    kept = base if isinstance(base, dict) else {}
    return kept | {key: merged(kept.get(key), value, where) for key, value in over.items()}


_MERGE = "tag:yaml.org,2002:merge"
_MOST_VALUES = 100_000


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a group: YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a group of settings."""
        start, end = node.start_mark.index, node.end_mark.index
        own = [key for key, _ in node.value if key.tag != _MERGE and start <= key.start_mark.index < end]
        seen: list[Any] = []
        for key in own:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name!r} a second time", problem_mark=key.start_mark)
            seen.append(name)
        return super().construct_mapping(node, deep)

    def get_single_node(self) -> yaml.Node | None:
        """Return the file's root; raises YAMLError where aliases make few lines more than a configuration can be."""
        root: yaml.Node | None = super().get_single_node()
        if root is not None:
            _size(root, {})
        return root


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values of a node, aliases written out; raises YAMLError for too many, or for endless ones."""
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES  # until it is known: a group that contains itself
        below = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        parts = [] if isinstance(node, yaml.ScalarNode) else below
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    if known[id(node)] >= _MOST_VALUES:
        raise yaml.MarkedYAMLError(problem=f"more than {_MOST_VALUES:,} values", problem_mark=node.start_mark)
    return known[id(node)]


def load_yaml(path: Path) -> Tree:
    """Return the settings of a YAML file; raises InputError with the line of a mistake."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(str(path), "a configuration file", str(error.strerror).lower()) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of numbers and dates YAML lets Python's errors through
        mark = getattr(error, "problem_mark", None)
        where = f"{path} line {mark.line + 1}" if mark else str(path)
        raise InputError(where, "YAML", first_line(getattr(error, "problem", error))) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(str(path), "a mapping of settings", type(tree).__name__)
    return tree


def parse_assignment(text: str) -> tuple[list[str], Any]:
    """Return path and value of `a.b=value`: the value is read as YAML, that of a text taken as it stands unless quoted.

    To YAML a prompt (`query: `) or a template (`{title} {text}`) is a group of settings, or loses its last space.

    >>> parse_assignment("training.epochs=2")
    (['training', 'epochs'], 2)
    >>> parse_assignment("student.encoder.query_prompt=query: ")
    (['student', 'encoder', 'query_prompt'], 'query: ')
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}", "a.b=value", "no '='" if not equals else "no key")
    path = key.strip().split(".")
    if value.strip() not in ("", "~", "null") and value.lstrip()[0] not in "\"'" and _is_text(path):
        return path, value.lstrip()
    try:
        return path, yaml.load(value, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"--set {text:.200}", "a value in YAML", str(getattr(error, "problem", error))) from None


def _is_text(path: list[str]) -> bool:
    """Return whether the value of a setting is a text or null, and nothing else."""
    types: set[Any] = {PipelineConfig}
    for key in path:
        groups = [one for one in types if isinstance(one, type) and issubclass(one, BaseModel)]
        if not key.isdigit():
            types = {one.model_fields[key].annotation for one in groups if key in one.model_fields}
        types = {part for one in types for part in get_args(one) or (one,)}
    return str in types and types <= {str, NoneType}


def assign(tree: Tree, path: list[str], value: Any) -> None:
    """Set a nested value; a number as a key means an element of a list."""
    node: Any = tree
    for depth, (key, following) in enumerate(pairwise(path)):
        if isinstance(node, list):
            try:
                node = node[int(key)]
            except (ValueError, IndexError):
                raise InputError(f"--set {'.'.join(path)}", f"a position below {len(node)}", key) from None
        else:
            node = node.setdefault(key, [{}] if following == "0" else {})
        if not isinstance(node, dict | list):
            raise InputError(f"--set {'.'.join(path)}", "a group of settings", f"{'.'.join(path[: depth + 1])}={node!r}")
    if isinstance(node, list):
        try:
            node[int(path[-1])] = value
        except (ValueError, IndexError):
            raise InputError(f"--set {'.'.join(path)}", f"a position below {len(node)}", path[-1]) from None
    else:
        node[path[-1]] = value


def build_config(tree: Tree, where: str) -> PipelineConfig:
    """Return the validated configuration; raises InputError that lists the valid keys or says what is wrong."""
    try:
        return PipelineConfig.model_validate(tree)
    except InputError:
        raise
    except ValidationError as error:
        raise config_error(error, where) from None


def config_error(error: ValidationError, where: str, model: type[BaseModel] = PipelineConfig) -> InputError:
    """Return the first problem of a validation as an input error."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        valid = ", ".join(fields_at(model, path[:-1]))
        return InputError(f"{where}: {'.'.join(path)}", f"one of {valid}", f"the unknown key {path[-1]!r}")
    if first["type"] == "value_error":  # a group's own check, whose sentence says what does not go together
        return InputError(": ".join(filter(None, (where, ".".join(path)))), "settings that go together", str(cause))
    found = repr(first.get("input"))
    if first["type"] == "model_type":
        return InputError(f"{where}: {'.'.join(path)}", f"a group of settings ({', '.join(fields_at(model, path))})", found)
    if first["type"] == "tuple_type":
        return InputError(f"{where}: {'.'.join(path)}", "a list", found)
    message = str(first["msg"]).removeprefix("Input should be ")
    return InputError(f"{where}: {'.'.join(path)}", message[:1].lower() + message[1:], found if len(found) < 200 else "that")


def fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the names of the settings below a path of a configuration model."""
    for key in path:
        if key.isdigit():
            continue
        annotation = model.model_fields[key].annotation
        models = [
            part for part in (annotation, *get_args(annotation)) if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        if not models:
            return []
        model = models[0]
    return sorted(model.model_fields)


def with_negatives(config: PipelineConfig, count: int) -> PipelineConfig:
    """Return the configuration with another number of negatives, selected as before."""
    from nv_retriever.mining.selection import parse_selection, with_count

    if config.blend is not None:
        raise InputError("--negatives", "nothing beside `blend`: blend.stages.N.selection says it", str(count))
    selection = with_count(parse_selection(config.mining.selection), count)
    return config.model_copy(update={"mining": config.mining.model_copy(update={"selection": selection.name})})


def _study_fields() -> list[str]:
    return [name for name in fields_at(AblationConfig, []) if name != "pipeline"]


def build_ablation(
    config: PipelineConfig,
    study: Tree,
    seeds: int | None = None,
    methods: list[str] | None = None,
    evaluate_on: list[str] | None = None,
    where: str = "nvr ablate",
) -> AblationConfig:
    """Return the study that varies the configuration; several teachers are compared, alone and as ensembles.

    `study` holds the fields of AblationConfig from the group `ablation` of a configuration file; the options win.
    """
    if not isinstance(study, dict):
        raise InputError(f"{where}: ablation", f"a group of settings ({', '.join(_study_fields())})", repr(study))
    if "pipeline" in study:
        raise InputError(
            f"{where}: ablation.pipeline",
            f"one of {', '.join(_study_fields())}",
            "'pipeline'",
            "its settings stand beside the group `ablation`",
        )
    several = len(config.choosing_teachers) > 1
    tree: Tree = {
        "teachers": config.teachers if several else (),
        "ensembles": ("cross-sample", "intra-sample", "intra-sample-dedup") if several else (),
        "seeds": tuple(range(config.seed, config.seed + 3)),
    }
    options = {
        "seeds": tuple(range(config.seed, config.seed + seeds)) if seeds else None,
        "methods": tuple(methods) if methods else None,
        "evaluate_on": [{"source": source} for source in evaluate_on] if evaluate_on else None,
    }
    tree |= study | {name: value for name, value in options.items() if value is not None}
    tree["pipeline"] = alone(config, config.choosing_teachers[0])
    try:
        return AblationConfig.model_validate(tree)
    except ValidationError as error:
        raise config_error(error, where, AblationConfig) from None
