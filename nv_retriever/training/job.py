"""A training job: what is trained, on what and how, and the same as JSON for other processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nv_retriever.config import Runtime
from nv_retriever.errors import InputError
from nv_retriever.hardware import fast_bf16
from nv_retriever.training.config import StudentConfig, TrainingConfig

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.teachers.model_folder import ModelFolder


@dataclass(frozen=True)
class Mined:
    """A data set with its mined triples: one of the sources that a training blends."""

    dataset: Dataset
    split: str
    mining_folder: Path
    query_prompt: str | None = None
    """Task instruction put before the queries; by default the model's own query prompt."""
    document_prompt: str | None = None
    in_batch_negatives: bool | None = None
    """Overrides the training's switch: classes and clusters have siblings in every batch."""
    samples: int | None = None
    """At most so many samples, chosen by their hashes."""
    guide: tuple[Path, Path] | None = None
    """Embeddings of the teacher (documents, queries of the split) for a guide that is the teacher."""

    def as_json(self) -> dict[str, Any]:
        """Return the source as plain values."""
        paths = {"dataset": str(self.dataset.folder), "mining_folder": str(self.mining_folder)}
        return {**vars(self), **paths, "guide": [str(path) for path in self.guide] if self.guide else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Mined:
        """Return the source that `as_json` described."""
        from nv_retriever.data.dataset import Dataset

        guide = (Path(values["guide"][0]), Path(values["guide"][1])) if values["guide"] else None
        paths = {"dataset": Dataset.open(values["dataset"]), "mining_folder": Path(values["mining_folder"])}
        return cls(**{**values, **paths, "guide": guide})


def development_source(sources: Sequence[Mined], split: str) -> Mined:
    """Return the source that early stopping measures: the first one with the split, labelled sources last; or InputError."""
    found = [source for source in sources if split in source.dataset.splits]
    if not found:
        names = ", ".join(f"{source.dataset.name} with {', '.join(source.dataset.splits)}" for source in sources)
        hint = f"name another split, or add qrels/{split}.tsv to a data set"
        raise InputError("training.early_stopping.split", f"a source with a split {split!r}", names, hint)
    return min(found, key=lambda source: source.in_batch_negatives is False)


def check_teachers(config: TrainingConfig, score_kinds: Sequence[str], mixed: bool, vectors: bool) -> None:
    """Raise InputError for what a training wants of its teachers and they have not.

    `score_kinds` are those of the mined triples, `mixed` says whether samples have negatives of several teachers, and
    `vectors` whether the first one has vectors.
    """
    if config.distillation and len(score_kinds) > 1:
        found = ", ".join(score_kinds)
        raise InputError("training.distillation", "teacher scores of one kind", found, "distil from one teacher")
    if config.distillation and mixed:
        hint = "distil from one teacher, or mine with a cross-sample ensemble"
        raise InputError("training.distillation", "negatives of one teacher in a sample", "several", hint)
    if config.guide and config.guide.scores == "teacher" and not vectors:
        raise InputError("training.guide.scores", "the first teacher's vectors", "a teacher without vectors")


def check_lengths(config: TrainingConfig, student: ModelFolder) -> None:
    """Raise InputError where texts are to be longer than the student's positions."""
    limit = student.position_limit
    for name, length in (("query", config.query_max_length), ("document", config.document_max_length)):
        if limit is not None and length > limit:
            raise InputError(f"training.{name}_max_length", f"at most the student's {limit} positions", str(length))


def check_layers(config: StudentConfig, student: ModelFolder) -> None:
    """Raise InputError where more layers are to be kept than the model has."""
    if config.layers is not None and student.layers is not None and config.layers > student.layers:
        expected = f"at most {student.layers}, the layers of the model"
        raise InputError("student.layers", expected, str(config.layers))


def check_strategy(config: TrainingConfig, processes: int) -> None:
    """Raise InputError where there is nothing to shard over in so many processes (of all machines)."""
    if config.strategy == "fsdp" and processes == 1:
        hint = "set training.processes, or leave strategy at ddp"
        raise InputError("training.strategy", "several processes to shard over", "fsdp with one process", hint)


def on_cpu(runtime: Runtime) -> bool:
    """Return whether models train on processors: no GPU is wanted, or none is there."""
    import torch

    return runtime.device == "cpu" or not torch.cuda.is_available()


def check_hardware(config: TrainingConfig, runtime: Runtime) -> None:
    """Raise InputError for a training that this machine cannot do, or only by emulation."""
    import torch

    cpu = on_cpu(runtime)
    if cpu and runtime.device == "cuda":
        raise InputError("device", "a GPU that torch can use", "none", "use device auto or cpu")
    if not cpu and config.processes > torch.cuda.device_count():
        hint = "every process has a GPU of its own"
        expected = f"at most {torch.cuda.device_count()}, the GPUs here"
        raise InputError("training.processes", expected, str(config.processes), hint)
    if cpu and config.strategy == "fsdp":
        raise InputError("training.strategy", "GPUs to shard over", "fsdp on a CPU", "leave strategy at ddp")
    if config.precision == "bf16" and not fast_bf16("cpu" if cpu else "cuda"):
        hint = "it would emulate bf16, tens to hundreds of times slower: leave training.precision at auto, or take fp32"
        raise InputError("training.precision", "a processor or GPU that multiplies bf16", "none", hint)


@dataclass(frozen=True)
class TrainingJob:
    """The student of a model folder, trained on one source or several; every batch is of one of them."""

    sources: Sequence[Mined]
    model_folder: Path
    config: TrainingConfig
    seed: int
    runtime: Runtime

    @property
    def cpu(self) -> bool:
        """Whether it trains on processors: no GPU is wanted, or none is there."""
        return on_cpu(self.runtime)

    @property
    def bf16(self) -> bool:
        """Whether products are computed in bf16: as configured, or where they are fast."""
        if self.config.precision == "auto":
            return fast_bf16("cpu" if self.cpu else "cuda")
        return self.config.precision == "bf16"

    def check(self, processes: int) -> None:
        """Raise InputError for what cannot be trained in so many processes (of all machines), before anything is done."""
        from nv_retriever.teachers.model_folder import read_model_folder

        config = self.config
        check_strategy(config, processes)
        check_hardware(config, self.runtime)
        check_lengths(config, read_model_folder(self.model_folder))
        if config.early_stopping:
            development_source(self.sources, config.early_stopping.split)

    def as_json(self) -> dict[str, Any]:
        """Return the job as plain values."""
        return {
            "sources": [source.as_json() for source in self.sources],
            "model_folder": str(self.model_folder),
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "runtime": self.runtime.model_dump(mode="json"),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingJob:
        """Return the job that `as_json` described."""
        return cls(
            sources=[Mined.from_json(source) for source in values["sources"]],
            model_folder=Path(values["model_folder"]),
            config=TrainingConfig.model_validate(values["config"]),
            seed=values["seed"],
            runtime=Runtime.model_validate(values["runtime"]),
        )
