"""The options that every command takes, and the configuration that they mean."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

Json = dict[str, Any]
option = functools.partial(typer.Option, rich_help_panel="Common options")


@dataclass(frozen=True)
class Common:
    """The options that every command takes."""

    config: Annotated[Path | None, option(help="Settings in a YAML file; docs/configuration.md lists them.")] = None
    set_: Annotated[
        list[str] | None, option("--set", help="One setting, a.b=value (repeatable); an unknown name lists the valid ones.")
    ] = None
    dataset: Annotated[
        str | None,
        option(
            help="A BEIR folder, a file of pairs, a BEIR name, hf:ORG/NAME, irds:NAME; by default stdlib, Python's own "
            "documentation."
        ),
    ] = None
    split: Annotated[
        str | None,
        option(
            help="The qrels split that is mined, by default train; of `evaluate` the one that is measured, by default test."
        ),
    ] = None
    teacher: Annotated[
        list[str] | None,
        option(
            help="Whose scores choose negatives: MODEL (hub name or folder), bm25, cross-encoder:MODEL, endpoint:URL#MODEL, "
            "vectors:FOLDER (repeatable); minilm, the packaged all-MiniLM-L6-v2, by default."
        ),
    ] = None
    student: Annotated[str | None, option(help="The model that is trained; minilm by default.")] = None
    method: Annotated[
        str | None, option(help="The rule, 'topk-percpos(0.95)' by default; an unknown one lists the valid ones.")
    ] = None
    negatives: Annotated[int | None, option(help="Negatives of each query and positive; 4 by default.", min=1)] = None
    seed: Annotated[int | None, option(help="Seed of everything that is drawn; 0 by default.", min=0)] = None
    limit: Annotated[int | None, option(help="At most N queries of each split.", min=1)] = None
    home: Annotated[
        str | None, option(help="Folder or s3:// URL of artifacts and databases; by default NVR_HOME, else .nvr.")
    ] = None
    json_: Annotated[bool, option("--json", help="One JSON object on stdout as the last line.")] = False
    quiet: Annotated[bool, option("--quiet", help="No progress, no log lines.")] = False
    debug: Annotated[bool, option("--debug", help="Show the traceback of an error.")] = False

    def settings(self, evaluates: bool = False) -> Any:
        """Return the validated configuration; a file may hold the group of `nvr ablate` as well."""
        tree = self.tree(evaluates)
        tree.pop("ablation", None)
        return self.validated(tree)

    def tree(self, evaluates: bool = False) -> Json:
        """Return the settings as they were given: the file, over it the named options, over them --set."""
        from flows.settings import assign, load_config, parse_assignment

        tree = load_config(self.config) if self.config else {}
        for option, path, value in self.named(evaluates):
            if option == "--teacher":
                value = self._teachers(tree.get("teachers"))
            if value is not None and option != "--negatives":  # which changes a selection's number: see `validated`
                assign(tree, path, value)
        for text in self.set_ or []:
            assign(tree, *parse_assignment(text))
        return tree

    def named(self, evaluates: bool = False) -> list[tuple[str, list[str], Any]]:
        """Return the named options that are settings: the option, the setting's path, the value or None."""
        return [
            ("--dataset", ["dataset", "source"], self.dataset),
            ("--limit", ["dataset", "limit"], self.limit),
            ("--split", ["evaluation", "split"] if evaluates else ["split"], self.split),
            ("--seed", ["seed"], self.seed),
            ("--method", ["mining", "rule"], self.method),
            ("--negatives", ["mining", "selection"], self.negatives),
            ("--student", ["student", "encoder", "model"], self.student),
            ("--teacher", ["teachers"], self.teacher or None),
        ]

    def _teachers(self, configured: Any) -> list[Json] | None:
        """Return the named teachers, each with what the file says of it."""
        known = {one.get("name"): one for one in configured or [] if isinstance(one, dict)}
        return [dict(known.get(name, {"name": name})) for name in self.teacher] if self.teacher else None

    def validated(self, tree: Json) -> Any:
        """Return the configuration that the settings mean."""
        from flows.settings import build_config, with_negatives

        config = build_config(tree, str(self.config or "command line"))
        return config if self.negatives is None else with_negatives(config, self.negatives)

    def home_folder(self) -> str:
        """Return the absolute home folder; of a URL the copy on this machine."""
        from nv_retriever.errors import InputError
        from nv_retriever.remote_store import resolve_home

        if self.home is not None and not self.home.strip():  # an unset variable in a script: not the default's artifacts
            raise InputError("--home", "a folder or a URL", repr(self.home))
        return resolve_home(self.home)
