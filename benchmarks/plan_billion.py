"""What a corpus of a billion passages takes: bytes, hours, machines and cost, from measured rates.

    python benchmarks/plan_billion.py [--passages 1e9] [--queries 1e6] [--tokens 128] [--cpu-machines 64]
                                      [--gpus 8] [--cpu-price 0.04] [--gpu-price 3] [--write docs/scale.md]
                                      [--out benchmarks/results/plan_billion.json]

Rates come from benchmarks/results where the other benchmarks left them (encoding*.json, search*.json, mining*.json,
memory.json), a GPU's from a file whose machine names one; else from the options, whose defaults are assumptions
and said to be. Rates per core and per GPU are taken to scale with their number: for parts that is what the engines do, for
the threads of one machine it is optimistic. An assumed GPU reaches its rate from a width of 1,024 on, a narrower model its
share; measured rates are those of the model measured (wider ones reach more). Prices are assumptions.

Encoding is counted in products: per token 2 x the weights that multiply, and 4 x width x length for attention, per layer.
Exact search is 2 x passages x queries x dimensions. An IVF-PQ index is trained on 64 passages a list in ten rounds, assigns
every passage to the nearest of its lists, and scans `nprobe` of them per query.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HOUR = 3600.0
FORMATS = {"bf16": 2, "fp16": 2, "fp32": 4}
PQ_SCANS_PER_SECOND = 1e9
"""Codes that one core scans by table look-ups in a second; an assumption (FAISS, 48 bytes a code, AVX2)."""


@dataclass(frozen=True)
class Model:
    """An encoder by its shape."""

    name: str
    dim: int
    layers: int
    width: int
    weights: float
    """Weights that multiply every token: all but the embedding table."""

    def flop(self, tokens: float) -> float:
        """Return the products of a text of that many tokens."""
        return tokens * (2 * self.weights + 4 * self.layers * self.width * tokens)


MODELS = (
    Model("all-MiniLM-L6-v2", 384, 6, 384, 10.6e6),
    Model("e5-large (24 layers)", 1024, 24, 1024, 302e6),
    Model("a 7B decoder (Mistral)", 4096, 32, 4096, 6.98e9),
)


@dataclass(frozen=True)
class Machine:
    """What machines of one kind reach together."""

    name: str
    encode: float
    """FLOP/s of encoding."""
    search: float
    """FLOP/s of exact search."""
    price: float
    """Of all of them, for an hour."""
    source: str
    full_width: int = 1
    """Width of the narrowest model that reaches `encode`; narrower ones reach their share."""

    def encode_seconds(self, model: Model, flop: float) -> float:
        return flop / (self.encode * min(1, model.width / self.full_width))


def read(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """Return the results of a benchmark, the name of the file included."""
    return [json.loads(path.read_text()) | {"file": path.name} for path in sorted(folder.glob(pattern))]


def encoding_rate(results: list[dict[str, Any]], gpu: bool) -> tuple[float, str] | None:
    """Return FLOP/s per core or GPU of the fastest sound encoder of this project."""
    found = []
    for result in results:
        if (result["machine"].get("device", "cpu") != "cpu") != gpu:
            continue
        for row in result["results"]:
            sound = row["mean_cosine"] >= 0.9999 and row["min_cosine"] >= 0.999
            if row["system"].startswith("nv-retriever") and sound:
                share = 1 if gpu else result["machine"]["threads"]
                found.append((row["gflops"] * 1e9 / share, f"{row['system']}, {result['file']}"))
    return max(found, default=None)


def search_rate(results: list[dict[str, Any]], gpu: bool) -> tuple[float, str] | None:
    """Return FLOP/s per core or GPU of exact search."""
    found = []
    for result in results:
        machine = result.get("machine", {})
        if "gflops" in result and (machine.get("device", "cpu") != "cpu") == gpu:
            share = 1 if gpu else machine.get("threads", 1)
            found.append((result["gflops"]["search"] * 1e9 / share, f"{result['precision']}, {result['file']}"))
    return max(found, default=None)


def machines(options: argparse.Namespace) -> list[Machine]:
    """Return what CPU machines and GPUs reach, measured where a file says so."""
    encoding, search = read(options.results, "encoding*.json"), read(options.results, "search*.json")
    kinds = []
    for gpu in (False, True):
        count = options.gpus if gpu else options.cpu_machines * options.cores
        assumed = [1e12 * value for value in (options.gpu_encode, options.gpu_search)]
        if not gpu:
            assumed = [1e9 * value for value in (options.core_encode, options.core_search)]
        rates, sources = [], []
        found = (encoding_rate(encoding, gpu), search_rate(search, gpu))
        for what, measured, default in zip(("encoding", "search"), found, assumed, strict=True):
            rates.append((measured[0] if measured else default) * count)
            sources.append(f"{what} {rates[-1] / count / 1e9:,.0f} GFLOP/s ({measured[1] if measured else 'assumed'})")
        name = f"{count:,} GPUs" if gpu else f"{options.cpu_machines:,} machines of {options.cores} cores"
        price = count * (options.gpu_price if gpu else options.cpu_price)
        source = f"per {'GPU' if gpu else 'core'}: " + ", ".join(sources)
        kinds.append(Machine(name, rates[0], rates[1], price, source, 1024 if gpu and not found[0] else 1))
    return kinds


def row_rates(options: argparse.Namespace) -> dict[str, tuple[float, str]]:
    """Return what one process does per second: passages ingested, rows mined and written to the database."""
    rates = {"ingest": (options.ingest_rate, "assumed"), "mine": (options.mine_rate, "assumed")}
    mined = []
    for result in read(options.results, "mining*.json"):
        row = result["best"]["nv-retriever"]
        mined.append((row["rows"] / (row["steps"]["mine"] + row["steps"]["database"]), result["file"]))
    return rates | ({"mine": max(mined)} if mined else {})


def size(count: float) -> str:
    """Return bytes for people, in powers of ten."""
    for unit, scale in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if count >= scale:
            return f"{count / scale:,.2f} {unit}"
    return f"{count / 1e6:,.1f} MB"


def hours(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:,.1f} h"


def cost(seconds: float, machine: Machine) -> str:
    return f"{seconds / HOUR * machine.price:,.0f} $"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def index_of(options: argparse.Namespace, dim: int) -> dict[str, float]:
    """Return what an IVF-PQ index takes: a list per 4 sqrt(n), a code of dim / 8 bytes a passage."""
    n, code = options.passages, dim / 8
    lists = 2 ** round(math.log2(4 * math.sqrt(n)))
    return {
        "lists": lists,
        "code": code,
        "bytes": n * (code + 8) + lists * dim * 4 + 256 * dim * 4,
        "build_flop": 2.0 * dim * lists * (10 * 64 * lists + n),
        "search_flop": 2.0 * dim * lists * options.queries,
        "scans": options.queries * options.nprobe * n / lists,
    }


def measured_lines(options: argparse.Namespace, kinds: list[Machine], rates: dict[str, tuple[float, str]]) -> list[str]:
    """Return the rates that the plan is made of, each with where it comes from."""
    lines = [f"- {kind.name}, {kind.price:,.2f} $ an hour (assumed): {kind.source}" for kind in kinds]
    for result in read(options.results, "memory.json"):
        own = ", ".join(f"{row['peak_mb'] - row['before_mb']:,.0f} at {row['documents']:,}" for row in result["rows"])
        lines += [
            f"- exact search under a budget of {result['budget_mb']:,} MiB adds to the process, in MiB: {own} documents "
            f"x {result['dim']} ({result['file']})"
        ]
    return [
        *lines,
        f"- one process: ingests {rates['ingest'][0]:,.0f} passages a second ({rates['ingest'][1]}), mines and stores "
        f"{rates['mine'][0]:,.0f} rows a second ({rates['mine'][1]})",
        f"- assumed: {options.network_mb:,} MB/s from shared storage to a machine, {options.disk_mb:,} MB/s on its disk, "
        f"{options.storage_price} $ for a GB and month of shared storage",
    ]


def embedding_table(options: argparse.Namespace, kinds: list[Machine]) -> str:
    """Return bytes and times of the embeddings, by model."""
    rows = []
    for model in MODELS:
        flop = options.passages * model.flop(options.tokens) + options.queries * model.flop(options.query_tokens)
        stored = options.passages * (model.dim * 4 + 24) + options.passages * model.dim * 4
        times = [kind.encode_seconds(model, flop) for kind in kinds]
        rows.append(
            [f"{model.name}, {model.dim}"]
            + [size(options.passages * model.dim * width) for width in sorted(set(FORMATS.values()))]
            + [f"{size(stored)}, {stored / 1e9 * options.storage_price:,.0f} $ a month"]
            + [f"{hours(time)}, {cost(time, kind)}" for time, kind in zip(times, kinds, strict=True)]
        )
    header = ["model, dimensions", "bf16 or fp16", "fp32", "in the home", *(f"time on {kind.name}" for kind in kinds)]
    return table(header, rows)


def search_table(options: argparse.Namespace, kinds: list[Machine]) -> str:
    """Return the times of exact search, by dimensions."""
    rows = []
    for model in MODELS:
        products = 2.0 * options.passages * options.queries * model.dim
        fetch = options.passages * model.dim * 4 / (options.network_mb * 1e6)
        times = [f"{hours(products / kind.search)}, {cost(products / kind.search, kind)}" for kind in kinds]
        rows.append([f"{model.dim}", f"{products:.1e}", hours(fetch), *times])
    return table(["dimensions", "FLOP", "fetch", *(f"time on {kind.name}" for kind in kinds)], rows)


def index_table(options: argparse.Namespace, machine: Machine) -> str:
    """Return bytes and times of an approximate index on one machine, by dimensions."""
    rows = []
    per_core = machine.search / (options.cpu_machines * options.cores)
    for model in MODELS:
        index = index_of(options, model.dim)
        build = index["build_flop"] / (per_core * options.cores)
        answer = (index["search_flop"] / per_core + index["scans"] / PQ_SCANS_PER_SECOND) / options.cores
        name = f"ivfpq(nlist={index['lists']:.0f}, nprobe={options.nprobe}, m={index['code']:.0f}, bits=8)"
        rows.append([str(model.dim), f"`{name}`", size(index["bytes"]), hours(build), hours(answer)])
    return table(["dimensions", "index", "bytes", "build", f"{options.queries:,.0f} queries"], rows)


def stage_table(options: argparse.Namespace, rates: dict[str, tuple[float, str]]) -> str:
    """Return rows, bytes and times of the stages that one process does."""
    n, mined = options.passages, options.queries * options.positives * options.negatives
    stages = [
        ["ingest", f"{n:,.0f} passages", size(n * options.tokens * options.token_bytes), hours(n / rates["ingest"][0])],
        ["lay out 384 dimensions", f"{n:,.0f} rows", size(n * 384 * 4), hours(2 * n * 384 * 4 / (options.disk_mb * 1e6))],
        [
            "candidates",
            f"{options.queries * options.depth:,.0f} pairs",
            size(options.queries * options.depth * 8),
            "in the search",
        ],
        ["mine", f"{mined:,.0f} rows", size(mined * options.row_bytes), hours(mined / rates["mine"][0])],
    ]
    return table(["stage", "rows", "bytes", "time"], stages)


def plan(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the tables and the numbers behind them."""
    n, queries, kinds, rates = options.passages, options.queries, machines(options), row_rates(options)
    title = f"{n:,.0f} passages of {options.tokens} tokens, {queries:,.0f} queries of {options.query_tokens}; rates:"
    parts = (
        "\n".join([title, *measured_lines(options, kinds, rates)]),
        "**Embeddings** (the home keeps fp32 twice: by content, and laid out by row)",
        embedding_table(options, kinds),
        f"**Exact search** of {queries:,.0f} queries, products only; each machine first fetches the fp32 vectors",
        search_table(options, kinds),
        f"**Approximate index** on one machine of {options.cores} cores: it has to fit its memory; one process builds it",
        index_table(options, kinds[0]),
        "**What one process does**",
        stage_table(options, rates),
    )
    numbers = {
        "machines": [asdict(kind) for kind in kinds],
        "rates": rates,
        "encode_seconds": {
            model.name: {kind.name: kind.encode_seconds(model, n * model.flop(options.tokens)) for kind in kinds}
            for model in MODELS
        },
        "search_seconds": {
            model.dim: {kind.name: 2 * n * queries * model.dim / kind.search for kind in kinds} for model in MODELS
        },
        "indexes": {model.dim: index_of(options, model.dim) for model in MODELS},
        "ingest_seconds": n / rates["ingest"][0],
        "mine_seconds": queries * options.positives * options.negatives / rates["mine"][0],
    }
    return "\n\n".join(parts), numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    counts = (("passages", 1e9), ("queries", 1e6), ("tokens", 128), ("query-tokens", 16), ("positives", 1), ("negatives", 4))
    machine = (("cpu-machines", 64), ("cores", 32), ("gpus", 8), ("network-mb", 1000), ("disk-mb", 1000))
    for name, default in (*counts, *machine, ("depth", 100), ("nprobe", 64)):
        parser.add_argument(f"--{name}", type=lambda text: int(float(text)), default=int(default))
    parser.add_argument("--cpu-price", type=float, default=0.04, help="$ for a core and hour; an assumption")
    parser.add_argument("--gpu-price", type=float, default=3.0, help="$ for a GPU of the H100 class and hour; an assumption")
    parser.add_argument("--storage-price", type=float, default=0.023, help="$ for a GB and month; an assumption")
    parser.add_argument("--core-encode", type=float, default=60.0, help="GFLOP/s of a core that encodes, where not measured")
    parser.add_argument(
        "--core-search", type=float, default=80.0, help="GFLOP/s of a core that searches, where not measured"
    )
    parser.add_argument("--gpu-encode", type=float, default=250.0, help="TFLOP/s of a GPU that encodes, where not measured")
    parser.add_argument("--gpu-search", type=float, default=250.0, help="TFLOP/s of a GPU that searches, where not measured")
    parser.add_argument("--ingest-rate", type=float, default=20_000.0, help="passages a second, where not measured")
    parser.add_argument("--mine-rate", type=float, default=200_000.0, help="rows a second, where not measured")
    parser.add_argument("--row-bytes", type=float, default=53.0, help="bytes of a mined row in parquet (27) and DuckDB (26)")
    parser.add_argument("--token-bytes", type=float, default=4.5, help="bytes of text per token, before compression")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--write", type=Path, help="a page whose part between <!-- plan --> and <!-- /plan --> is replaced")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/plan_billion.json"))
    options = parser.parse_args()
    text, numbers = plan(options)
    print(text)
    settings = {name: value for name, value in vars(options).items() if not isinstance(value, Path | None)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"options": settings, **numbers}, indent=1) + "\n")
    if options.write:
        before, _, rest = options.write.read_text().partition("<!-- plan -->")
        _, _, after = rest.partition("<!-- /plan -->")
        options.write.write_text(f"{before}<!-- plan -->\n\n{text}\n\n<!-- /plan -->{after}")


if __name__ == "__main__":
    main()
