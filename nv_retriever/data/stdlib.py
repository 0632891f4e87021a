"""The embedded default: the documentation of the Python standard library, read from the interpreter that runs.

A document is a function, method, class, property, exception or module: its dotted name is the title, its signature and
docstring are the text. A question is a sentence of the docstring, rephrased, and leaves the text. What has the same content
under different names (posixpath and ntpath, decimal and its Python twin) stays several documents: true near-duplicates, on
which naive mining fails. Train, dev and test are disjoint in top-level modules.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from nv_retriever.data import stdlib_harvest
from nv_retriever.data.records import Document, Label, Place, Problems, Query
from nv_retriever.data.stdlib_questions import Question, ask, content_words, later_sentences, split_summary
from nv_retriever.data.text import normalise
from nv_retriever.errors import InputError

GENERATOR = 1
"""Version of what is made from one interpreter's documentation."""
TWINS = ("_pydecimal", "_pyio", "_collections_abc")
"""Private modules that document the same things as public ones: kept, for their near-duplicates."""
TEST_SHARE, DEV_SHARE = 0.16, 0.12
_BODY_WORDS, _LONG_BODY_WORDS, _MOST_ALIKE = 8, 30, 8
_TIMEOUT_SECONDS = 300


class Entry(NamedTuple):
    """A documented object."""

    id: str
    module: str
    """The top-level module."""
    heading: str
    """Kind, name within the module, signature: `method Path.exists(self)`."""
    sentences: tuple[tuple[str, Question], ...]
    """Sentences of the docstring that can become questions."""
    doc: str
    """The docstring without call lines: the summary sentence, then the rest."""

    def text(self, asked: set[str]) -> str:
        """Return the passage: heading and docstring without the sentences that are asked about."""
        doc = self.doc
        for sentence, question in self.sentences:
            if question.key in asked:
                doc = re.sub(r"\s+".join(map(re.escape, sentence.split())), "", doc, count=1)
        return f"{self.heading}\n\n{doc.strip()}".strip()


@dataclass
class Corpus:
    """The generated data set."""

    documents: list[tuple[str, str, str]] = field(default_factory=list)
    """(id, title, text)."""
    queries: list[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=list)
    """(id, text, split, ids of the positives)."""


class StandardLibrary:
    """The source `stdlib`."""

    name = "python-stdlib"
    repeats = False

    def digest(self) -> str:
        """Return a digest of the interpreter's version, the modules that it has, and the generator's version."""
        folder = Path(sysconfig.get_path("stdlib"))
        present = sorted(path.name for place in (folder, folder / "lib-dynload") for path in place.glob("*"))
        parts = [GENERATOR, list(sys.version_info), sys.platform, sorted(sys.builtin_module_names), present]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @cached_property
    def _corpus(self) -> Corpus:
        return build_corpus(read_records())

    def documents(self, problems: Problems) -> Iterator[Document]:
        """Yield the passages."""
        for number, (identifier, title, text) in enumerate(self._corpus.documents, start=1):
            yield Document(identifier, title, text, Place("stdlib", number, "document"))

    def queries(self, problems: Problems) -> Iterator[Query]:
        """Yield the questions."""
        for number, (identifier, text, _, _) in enumerate(self._corpus.queries, start=1):
            yield Query(identifier, text, Place("stdlib", number, "query"))

    def labels(self, problems: Problems) -> Iterator[Label]:
        """Yield the labels."""
        for number, (identifier, _, split, positives) in enumerate(self._corpus.queries, start=1):
            yield from (Label(split, identifier, document, 1, Place("stdlib", number, "query")) for document in positives)


def read_records() -> list[dict[str, str]]:
    """Return the documented objects of the running interpreter, read by a fresh process of it (see stdlib_harvest)."""
    command = [sys.executable, "-S", "-s", "-P", "-B", "-W", "ignore", str(Path(stdlib_harvest.__file__).resolve())]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryDirectory() as folder:
        options = {"env": environment, "cwd": folder, "stdin": subprocess.DEVNULL, "timeout": _TIMEOUT_SECONDS}
        done = subprocess.run(command, capture_output=True, check=False, **options)  # type: ignore[call-overload]
    lines = done.stdout.decode().splitlines()
    if done.returncode or not lines:
        found = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise InputError("stdlib", "an interpreter that reads its own documentation", found[0])
    return [json.loads(line) for line in lines]


def is_public(name: str) -> bool:
    """Return whether a developer would look a name up."""
    first, *others = name.split(".")
    return not any(part.startswith("_") for part in others) and (not first.startswith("_") or first in TWINS)


def entries(records: list[dict[str, str]]) -> list[Entry]:
    """Return the public objects that say something, with the questions that each could answer, sorted by id."""
    public = [record for record in records if is_public(record["name"]) and len(record["doc"].split()) >= 4]
    repeats = Counter(record["doc"] for record in public)
    names = Counter(record["name"] for record in public)
    result = []
    for record in public:
        name, kind = record["name"], record["kind"]
        if repeats[record["doc"]] > _MOST_ALIKE:
            continue
        signature, summary, rest = split_summary(record["doc"], record["signature"])
        found = ask(name, kind, signature, summary)
        sentences = [(summary, found)] if found and answers(name, rest, found) else []
        if _words(rest) >= _LONG_BODY_WORDS:
            later = ((s, ask(name, kind, signature, s, later=True)) for s in later_sentences(rest)[:6])
            sentences += [(s, question) for s, question in later if question][:1]
        identifier = name if names[name] == 1 else f"{name}:{kind}"
        doc = f"{summary}\n\n{rest}" if rest else summary
        heading = f"{kind} {name.removeprefix(record['module'] + '.')}{signature}"
        result.append(Entry(identifier, record["module"].split(".")[0], heading, tuple(sentences), doc))
    return sorted(result, key=lambda entry: entry.id)


def _words(text: str) -> int:
    return len(re.findall(r"[A-Za-z]{2,}", text))


def answers(name: str, rest: str, question: Question) -> bool:
    """Return whether a passage still answers a question without its summary: by its body, or by its name."""
    shared = set(content_words(question.text)) & set(content_words(name.replace("_", " ").replace(".", " ")))
    return _words(rest) >= _BODY_WORDS or len(shared) >= 2


def build_corpus(records: list[dict[str, str]]) -> Corpus:
    """Return documents, questions, labels and splits; a function of the records alone."""
    known = entries(records)
    asked: dict[str, list[Entry]] = defaultdict(list)
    texts: dict[str, str] = {}
    for entry in known:
        for _, question in entry.sentences:
            if entry not in asked[question.key]:
                asked[question.key].append(entry)
            texts[question.key] = question.text
    spoken = Counter(normalise(text) for text in texts.values())
    keys = {key for key, found in asked.items() if len(found) <= _MOST_ALIKE and spoken[normalise(texts[key])] == 1}
    passages = {entry.id: entry.text(keys) for entry in known}
    views = {entry.id: normalise(f"{entry.id} {passages[entry.id]}") for entry in known}
    keys = {key for key in keys if not any(_leaks(texts[key], key, entry, views[entry.id]) for entry in asked[key])}
    family = families({key: {entry.module for entry in asked[key]} for key in keys})
    usable = {key: {family[entry.module] for entry in asked[key]} for key in keys}
    keys = {key for key in keys if len(usable[key]) == 1}
    splits = split_families(Counter(next(iter(usable[key])) for key in keys))
    corpus = Corpus([(entry.id, entry.id.split(":")[0], passages[entry.id]) for entry in known])
    for key in sorted(keys, key=lambda key: texts[key]):
        identifier = f"q-{hashlib.blake2b(normalise(texts[key]).encode(), digest_size=8).hexdigest()}"
        split = splits[next(iter(usable[key]))]
        corpus.queries.append((identifier, texts[key], split, tuple(entry.id for entry in asked[key])))
    return corpus


def _leaks(text: str, key: str, entry: Entry, view: str) -> bool:
    """Return whether a question names its answer or is part of it."""
    core = key.split("} ", 1)[1]
    return normalise(core) in view or entry.id.split(":")[0].lower() in text.lower().split()


def families(modules: dict[str, set[str]]) -> dict[str, str]:
    """Return the family of each top-level module: modules that share at least two questions are one family.

    posixpath, ntpath and genericpath, decimal and _pydecimal: apart, a test question would have been trained on.
    """
    parent = {module: module for found in modules.values() for module in found}

    def root(module: str) -> str:
        """Return the module that stands for the set a module is in."""
        while parent[module] != module:
            module = parent[module]
        return module

    shared: Counter[tuple[str, str]] = Counter()
    for found in modules.values():
        first, *others = sorted(found)
        shared.update((first, other) for other in others)
    for (a, b), count in sorted(shared.items()):
        if count >= 2:
            low, high = sorted((root(a), root(b)))
            parent[high] = low
    return {module: root(module) for module in parent}


def split_families(sizes: Counter[str]) -> dict[str, str]:
    """Return the split of each family: in the order of their hashes, small ones fill test, then dev; the rest is train."""
    total = sum(sizes.values())
    quota = {"test": TEST_SHARE * total, "dev": DEV_SHARE * total}
    taken: Counter[str] = Counter()
    result = {}
    for family in sorted(sizes, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest()):
        fits = (name for name, most in quota.items() if taken[name] < most and sizes[family] <= most / 3)
        result[family] = next(fits, "train")
        taken[result[family]] += sizes[family]
    return result
