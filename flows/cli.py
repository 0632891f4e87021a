"""The command line: parse, start a flow, print. Heavy imports happen inside the commands only."""

from __future__ import annotations

import functools
import importlib
import inspect
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from flows.ending import PlainFormatter, guarded, whole_output
from flows.options import Common

if TYPE_CHECKING:
    from nv_retriever.teachers.config import TeacherConfig

Json = dict[str, Any]

app = typer.Typer(
    name="nvr",
    help="From documents, queries and labels to a measurably better retriever, by hard negatives that are true.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command whose last parameter `common` is spelled out as the common options."""
    hints = get_type_hints(Common, include_extras=True)
    own = [
        parameter.replace(annotation=annotation)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "common" and (annotation := get_type_hints(function, include_extras=True)[name])
    ]
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(Common)
    ]

    @functools.wraps(function)
    def wrapper(**options: Any) -> None:
        common = Common(**{field.name: options.pop(field.name) for field in fields(Common)})
        prepare_environment(common)

        def checked() -> None:
            """Do what the command does, and say what it was told and does not read."""
            from flows.reads import warn_of_unread

            warn_of_unread(function.__name__, common)
            function(common=common, **options)

        guarded(checked, common.debug)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    wrapper.__signature__ = inspect.Signature([*keyword_only, *shared])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    app.command()(wrapper)
    return function


def prepare_environment(common: Common) -> None:
    """Set what the tools below read from the environment, before they are imported; the user's settings win."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "nv_retriever",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a result that is done is not lost to a locale without "→"
        sys.stdout.reconfigure(errors="replace")
    own = logging.getLogger("nv_retriever")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter())
    own.addHandler(handler)
    own.setLevel(logging.WARNING if common.quiet else logging.INFO)


def start(flow_path: str, common: Common, config: Any, models: Sequence[TeacherConfig], **parameters: Any) -> Json:
    """Run the flow `module:name` in this process and return its result; its server starts while it is imported.

    Before that the names of its models and the first records of the data set are looked at: the flow would say the same,
    ten seconds later.
    """
    from flows.server import temporary_server
    from nv_retriever.data.head import check_head
    from nv_retriever.teachers.names import check_place

    home = common.home_folder()
    check_head(getattr(config, "pipeline", config).dataset)
    for model in models:
        check_place(model)
    with temporary_server() as wait_for_server:
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        module, name = flow_path.split(":")
        flow = getattr(importlib.import_module(module), name)
        silence_prefect_console()
        wait_for_server()
        # The heartbeat would hold up the end of every flow by a second.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            result: Json = flow(config=config, home=home, **parameters)
    return result


def named(model: str) -> TeacherConfig:
    """Return the model of a name."""
    from nv_retriever.teachers.config import TeacherConfig

    return TeacherConfig(name=model)


def silence_prefect_console() -> None:
    """Keep Prefect's console quiet: it would say again what the command line says, errors with their traceback."""
    for name in (None, "nv_retriever", *(name for name in logging.root.manager.loggerDict if name.startswith("prefect"))):
        for handler in logging.getLogger(name).handlers:
            if type(handler).__name__ == "PrefectConsoleHandler":
                handler.setLevel(logging.CRITICAL)


def emit(result: Json, common: Common, show: Callable[[Json], None]) -> None:
    """Print the result: for people, or as the one JSON object of the contract."""
    with whole_output():
        if common.json_:
            print(json.dumps(result, allow_nan=False, default=str))
        else:
            show(result)


@command
def run(common: Common) -> None:
    """Run the whole pipeline: ingest, embed, index, mine, train, evaluate."""
    from flows.console import show_run

    config = common.settings()
    models = [*config.teachers, named(config.student.encoder.model)]
    result = start("flows.pipeline:pipeline", common, config, models)
    emit(result, common, functools.partial(show_run, dataset=config.dataset.source))


@command
def mine(
    export: Annotated[
        str | None,
        typer.Option(
            help="Also write the negatives in this format: triplet, n-tuple, labeled-pair, labeled-list, flagembedding, "
            "tevatron, nemo, parquet or trec."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder (or file, of some formats) to write them to; needs --export.")
    ] = None,
    *,
    common: Common,
) -> None:
    """Mine hard negatives; with --export and --out, write them for another trainer."""
    from flows.console import show_mining
    from nv_retriever.store.exports.export import check_request

    check_request(export, out)
    config = common.settings()
    place = str(out.resolve()) if out else None
    result = start("flows.mining:mining", common, config, config.teachers, export_format=export, out=place)
    emit(result, common, show_mining)


@command
def train(
    rounds: Annotated[
        int, typer.Option(help="Trainings; each further one mines with the student of the one before.", min=1)
    ] = 1,
    *,
    common: Common,
) -> None:
    """Train the student on mined triples; what is not mined yet is mined first."""
    from flows.console import show_training

    config = common.settings()
    models = [*config.teachers, named(config.student.encoder.model)]
    if rounds > 1:
        result = start("flows.rounds:rounds_of_training", common, config, models, rounds=rounds)
    else:
        result = start("flows.training:training", common, config, models)
    emit(result, common, show_training)


@command
def evaluate(
    model: Annotated[str, typer.Option(help="Hub name or folder of an encoder, bm25, endpoint:URL#MODEL.")] = "minilm",
    mteb_results: Annotated[
        Path | None, typer.Option(help="Also write the scores as mteb's result files, into this folder.")
    ] = None,
    with_mteb: Annotated[bool, typer.Option(help="Let mteb measure too: a second opinion (needs the extra mteb).")] = False,
    *,
    common: Common,
) -> None:
    """Measure any model on any data set."""
    from flows.console import show_evaluation
    from nv_retriever.files import local_path

    config = common.settings(evaluates=True)
    folder = str(local_path("--mteb-results", mteb_results).resolve()) if mteb_results else None
    options = {"model": model, "mteb_results": folder, "with_mteb": with_mteb}
    result = start("flows.evaluation:evaluation", common, config, [named(model)], **options)
    emit(result, common, show_evaluation)


@command
def plan(common: Common) -> None:
    """Say what `nvr run` would do, what is cached, and why something is stale; touches nothing."""
    from flows.console import show_plan
    from flows.staleness import explain_plan

    emit(explain_plan(common.settings(), common.home_folder()), common, show_plan)


@command
def ablate(
    seeds: Annotated[int | None, typer.Option(help="Trainings of every cell; 3 by default.", min=1)] = None,
    methods: Annotated[
        list[str] | None, typer.Option(help="A rule, `random` or `oracle` (repeatable); the paper's by default.")
    ] = None,
    evaluate_on: Annotated[list[str] | None, typer.Option(help="Another data set to measure on (repeatable).")] = None,
    *,
    common: Common,
) -> None:
    """Compare methods, selections, teachers and ensembles over seeds: the paper's tables, with confidence intervals."""
    from flows.console import show_ablation
    from flows.settings import build_ablation

    tree = common.tree()
    study = tree.pop("ablation", {})
    config = build_ablation(common.validated(tree), study, seeds, methods, evaluate_on)
    pipeline = config.pipeline
    models = [*config.teachers, *pipeline.teachers, named(pipeline.student.encoder.model)]
    emit(start("flows.ablation:ablation", common, config, models), common, show_ablation)


@command
def audit(common: Common) -> None:
    """Measure how many of the mined negatives are false, by method and margin; recommend a margin."""
    from flows.console import show_audit

    config = common.settings()
    emit(start("flows.auditing:auditing", common, config, config.teachers), common, show_audit)


@command
def explain(
    query_id: Annotated[str, typer.Argument(help="The id of a query of the mined split.")],
    document: Annotated[
        str | None, typer.Option(help="The id of one document: why it is a negative, or why it is none.", metavar="DOC_ID")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write it as a page, to this file.")] = None,
    *,
    common: Common,
) -> None:
    """Say why this negative, and why not that one: teacher, rank, score, anchor, limit, reason."""
    from flows.explanation import explain_query
    from nv_retriever.files import local_path

    html = local_path("--html", html) if html else None
    result, show = explain_query(query_id, common.settings(), common.home_folder(), html, document)
    emit(result, common, show)


@command
def serve(
    port: Annotated[
        int, typer.Option(help="Port of the Prefect server that is started where none is reachable.", min=1, max=65535)
    ] = 4200,
    *,
    common: Common,
) -> None:
    """Register the deployments and serve them, so that the Prefect UI can trigger and schedule them."""
    from deployments.serve import serve_deployments

    serve_deployments(port=port, home=common.home_folder(), config=common.settings())


def main() -> None:
    """Enter the command line."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # for the help; a command that runs meets broken pipes as errors
    app(prog_name="nvr")


if __name__ == "__main__":
    main()
