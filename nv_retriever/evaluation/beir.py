"""The fifteen data sets of BEIR and the thirteen of NanoBEIR: which split, which identical-id rule, which forums.

Thakur et al. 2021 (BEIR); splits, identical-id rules and task names as in mteb 2.26's `BEIR` and `NanoBEIR` benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nv_retriever.data.open import FORUMS
from nv_retriever.errors import InputError
from nv_retriever.evaluation.config import EvaluationConfig


@dataclass(frozen=True)
class BeirSet:
    """One row of the benchmark's table."""

    name: str
    """What the paper's tables call it."""
    sources: tuple[str, ...]
    """Names for `DatasetConfig.source`; CQADupStack's value is the mean of its twelve forums."""
    mteb_task: str
    queries: int
    """Test queries, over all sources."""
    documents: int
    split: str = "test"
    ignore_identical_ids: bool = False
    """Whether a document with the query's id is dropped, as mteb does for this set (BEIR itself does it for all)."""
    mteb_tasks: tuple[str, ...] = ()
    """The tasks of the sources where there are several."""


BEIR: tuple[BeirSet, ...] = (
    BeirSet("ArguAna", ("arguana",), "ArguAna", 1406, 8674, ignore_identical_ids=True),
    BeirSet("ClimateFEVER", ("climate-fever",), "ClimateFEVER", 1535, 5416593),
    BeirSet(
        "CQADupstack",
        tuple(f"cqadupstack-{forum}" for forum in FORUMS),
        "CQADupstackRetrieval",
        13145,
        457199,
        mteb_tasks=tuple(f"CQADupstack{forum.title()}Retrieval" for forum in FORUMS),
    ),
    BeirSet("DBPedia", ("dbpedia-entity",), "DBPedia", 400, 4635922),
    BeirSet("FEVER", ("fever",), "FEVER", 6666, 5416568, ignore_identical_ids=True),
    BeirSet("FiQA2018", ("fiqa",), "FiQA2018", 648, 57638, ignore_identical_ids=True),
    BeirSet("HotpotQA", ("hotpotqa",), "HotpotQA", 7405, 5233329),
    BeirSet("MSMARCO", ("msmarco",), "MSMARCO", 6980, 8841823, split="dev", ignore_identical_ids=True),
    BeirSet("NFCorpus", ("nfcorpus",), "NFCorpus", 323, 3633),
    BeirSet("NQ", ("nq",), "NQ", 3452, 2681468),
    BeirSet("Quora", ("quora",), "QuoraRetrieval", 10000, 522931, ignore_identical_ids=True),
    BeirSet("SCIDOCS", ("scidocs",), "SCIDOCS", 1000, 25657),
    BeirSet("SciFact", ("scifact",), "SciFact", 300, 5183),
    BeirSet("Touche2020", ("webis-touche2020",), "Touche2020", 49, 382545),
    BeirSet("TRECCOVID", ("trec-covid",), "TRECCOVID", 50, 171332),
)

_NANO = {
    "NanoArguAna": "NanoArguAnaRetrieval",
    "NanoClimateFEVER": "NanoClimateFeverRetrieval",
    "NanoDBPedia": "NanoDBPediaRetrieval",
    "NanoFEVER": "NanoFEVERRetrieval",
    "NanoFiQA2018": "NanoFiQA2018Retrieval",
    "NanoHotpotQA": "NanoHotpotQARetrieval",
    "NanoMSMARCO": "NanoMSMARCORetrieval",
    "NanoNFCorpus": "NanoNFCorpusRetrieval",
    "NanoNQ": "NanoNQRetrieval",
    "NanoQuoraRetrieval": "NanoQuoraRetrieval",
    "NanoSCIDOCS": "NanoSCIDOCSRetrieval",
    "NanoSciFact": "NanoSciFactRetrieval",
    "NanoTouche2020": "NanoTouche2020Retrieval",
}
NANO_BEIR: tuple[BeirSet, ...] = tuple(
    BeirSet(name, (f"hf:zeta-alpha-ai/{name}",), task, 49 if "Touche" in name else 50, 5000, split="train")
    for name, task in _NANO.items()
)
"""Fifty queries and some thousand documents of each set (`documents` is only an order of magnitude); their labels are
in a split named train."""


def beir_set(name: str) -> BeirSet:
    """Return a set by its name in the tables, its mteb task or one of its sources; raises InputError for an unknown one.

    >>> beir_set("msmarco").split, beir_set("CQADupstackRetrieval").name, len(beir_set("CQADupstack").sources)
    ('dev', 'CQADupstack', 12)
    """
    found = find_beir_set(name)
    if found is None:
        known = ", ".join(one.name for one in (*BEIR, *NANO_BEIR))
        raise InputError("benchmark", f"one of {known}", repr(name))
    return found


def find_beir_set(name: str) -> BeirSet | None:
    """Return a set by any of its names, in any case, or None."""
    wanted = name.lower()
    for one in (*BEIR, *NANO_BEIR):
        if wanted in {text.lower() for text in (one.name, one.mteb_task, *one.sources, *one.mteb_tasks)}:
            return one
    return None


def benchmark_parts(source: str) -> tuple[str, ...]:
    """Return the data sets that a name stands for: CQADupstack its twelve forums, everything else itself.

    >>> len(benchmark_parts("CQADupstack")), benchmark_parts("cqadupstack-gis"), benchmark_parts("./my-set")
    (12, ('cqadupstack-gis',), ('./my-set',))
    """
    found = _by_name(source)
    if found is None:
        return (source,)
    return (source.lower(),) if source.lower() in found.sources else found.sources


def benchmark_settings(config: EvaluationConfig, source: str) -> EvaluationConfig:
    """Return the settings with a benchmark's own split and identical-id rule, where they are left to `auto`.

    Whether a setting was given is not asked: Prefect's form gives all of them.

    >>> [benchmark_settings(config, "msmarco").split for config in (EvaluationConfig(), EvaluationConfig(split="x"))]
    ['dev', 'x']
    >>> EvaluationConfig().ignore_identical_ids, benchmark_settings(EvaluationConfig(), "quora").ignore_identical_ids
    ('auto', True)
    """
    found = _by_name(source)
    if found is None:
        return config.on("test")
    rule = found.ignore_identical_ids if config.ignore_identical_ids == "auto" else config.ignore_identical_ids
    return config.on(found.split).model_copy(update={"ignore_identical_ids": rule})


def _by_name(source: str) -> BeirSet | None:
    """Return the benchmark that a data set's name means; a folder is no benchmark, whatever it is called."""
    return None if Path(source).expanduser().exists() else find_beir_set(source)


def mteb_task_name(dataset: str) -> str:
    """Return the mteb task of a data set's name, the name itself where mteb has none.

    >>> mteb_task_name("scifact"), mteb_task_name("cqadupstack-gis"), mteb_task_name("my-set")
    ('SciFact', 'CQADupstackGisRetrieval', 'my-set')
    """
    found = find_beir_set(dataset)
    if found is None:
        return dataset
    if dataset.lower() in found.sources and found.mteb_tasks:
        return found.mteb_tasks[found.sources.index(dataset.lower())]
    return found.mteb_task


def mean_metrics(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the unweighted means of the metrics that all parts have: twelve forums to one set, fifteen sets to BEIR.

    >>> mean_metrics([{"nDCG@10": 0.25, "R@100": 1.0}, {"nDCG@10": 0.75}])
    {'nDCG@10': 0.5}
    """
    if not parts:
        raise ValueError("expected the metrics of at least one data set, found none")
    shared = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: sum(part[name] for part in parts) / len(parts) for name in shared}
