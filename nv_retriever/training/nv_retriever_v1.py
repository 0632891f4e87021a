"""NV-Retriever-v1 (arXiv 2407.15831): its data sets with hub names and instructions, and its two stages as configurations.

The paper gives the data sets, their sizes, the schedule and the form `{instruction}: {query}` / `passage: `; it names no hub
repositories and not all instructions. Those here are the field's usual ones and are marked so in docs/training.md.
"""

from __future__ import annotations

from typing import Literal

from nv_retriever.config import Frozen
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.training.config import LoraConfig, StudentConfig, TrainingConfig

Task = Literal["retrieval", "classification", "clustering", "similarity"]
DOCUMENT_PROMPT = "passage: "


class BlendSource(Frozen):
    """One of the data sets that a recipe blends."""

    name: str
    """Name in tables."""
    source: str
    """BEIR folder or name, `hf:ORG/NAME[:CONFIG]`, or a file of pairs."""
    task: Task = "retrieval"
    """How it becomes samples: mined, or drawn from its labels."""
    samples: int | None = None
    """At most so many samples (the paper's count)."""
    instruction: str = "Given a question, retrieve passages that answer the question"
    """Put before every query as `{instruction}: {query}`."""
    columns: dict[str, str] = {}  # noqa: RUF012  (pydantic copies it)
    """The column of each role, e.g. {"query": "question", "positive": "answer"} or {"text": "text", "label": "label"}."""

    @property
    def query_prompt(self) -> str:
        """What stands before a query."""
        return f"{self.instruction}: "


class RecipeStage(Frozen):
    """One stage: which tasks, how many mined negatives, and how it is trained."""

    name: str
    tasks: tuple[Task, ...] = ("retrieval",)
    """Tasks whose sources take part."""
    selection: str = "top(1)"
    """Negatives mined per sample."""
    training: TrainingConfig = TrainingConfig()
    """How; the stage starts from the one before."""


class Recipe(Frozen):
    """A student, the sources, and the stages that train it one after the other."""

    student: StudentConfig
    teacher: str
    """Who mines the retrieval sets."""
    rule: str
    """The miner's filter."""
    sources: tuple[BlendSource, ...]
    stages: tuple[RecipeStage, ...]

    def of(self, stage: RecipeStage) -> tuple[BlendSource, ...]:
        """Return the sources of a stage."""
        return tuple(source for source in self.sources if source.task in stage.tasks)


FACT = "Given a claim, retrieve documents that support or refute the claim"
STS = "Retrieve semantically similar text"


def _retrieval(name: str, source: str, samples: int, instruction: str = "", **columns: str) -> BlendSource:
    default = BlendSource.model_fields["instruction"].default
    return BlendSource(name=name, source=source, samples=samples, instruction=instruction or default, columns=columns)


RETRIEVAL = (
    _retrieval(
        "ArguAna", "hf:BeIR/arguana-generated-queries", 4065, "Given a claim, retrieve documents that refute the claim"
    ),
    _retrieval(
        "BioASQ", "hf:rag-datasets/rag-mini-bioasq", 2495, "Given a biomedical question, retrieve passages that answer it"
    ),
    _retrieval("FEVER", "fever", 50000, FACT),
    _retrieval("FiQA2018", "fiqa", 14166, "Given a financial question, retrieve user replies that best answer the question"),
    _retrieval("GOOAQ", "hf:sentence-transformers/gooaq", 20000, query="question", positive="answer"),
    _retrieval(
        "HotpotQA", "hotpotqa", 85000, "Given a multi-hop question, retrieve documents that can help answer the question"
    ),
    _retrieval("MSMARCO", "msmarco", 200000, "Given a web search query, retrieve relevant passages that answer the query"),
    _retrieval("NFCorpus", "nfcorpus", 3685, "Given a question, retrieve relevant documents that best answer the question"),
    _retrieval(
        "NLI",
        "hf:sentence-transformers/all-nli:triplet",
        20000,
        "Given a premise, retrieve a hypothesis that is entailed by the premise",
        query="anchor",
        positive="positive",
    ),
    _retrieval("NQ", "hf:sentence-transformers/natural-questions", 100231, query="query", positive="answer"),
    _retrieval("PAQ", "hf:sentence-transformers/paq", 20000, query="query", positive="answer"),
    _retrieval("SciFact", "scifact", 919, "Given a scientific claim, retrieve documents that support or refute the claim"),
    _retrieval("SQuAD", "hf:sentence-transformers/squad", 87599, query="question", positive="answer"),
    _retrieval(
        "StackExchange",
        "hf:sentence-transformers/stackexchange-duplicates:body-body-pair",
        100000,
        "Given a question, retrieve posts that answer it",
        query="body1",
        positive="body2",
    ),
    _retrieval("TriviaQA", "hf:sentence-transformers/trivia-qa", 20000, query="query", positive="answer"),
)
"""The 15 retrieval sets with the paper's sample counts."""


def _labelled(name: str, task: Task, instruction: str, repository: str, **columns: str) -> BlendSource:
    return BlendSource(name=name, source=f"hf:mteb/{repository}", task=task, instruction=instruction, columns=columns)


def _classes(name: str, repository: str, instruction: str) -> BlendSource:
    return _labelled(name, "classification", instruction, repository, text="text", label="label_text")


def _clusters(name: str, instruction: str) -> BlendSource:
    return _labelled(name, "clustering", instruction, name, text="sentences", label="labels")


def _pairs(name: str, repository: str) -> BlendSource:
    return _labelled(name, "similarity", STS, repository, first="sentence1", second="sentence2", score="score")


OTHER_TASKS = (
    _classes("Banking77", "banking77", "Given an online banking query, find the corresponding intent"),
    _classes("AmazonCounterfactual", "amazon_counterfactual:en", "Classify an Amazon review as counterfactual or not"),
    _classes("AmazonReviews", "amazon_reviews_multi:en", "Classify an Amazon review into its rating"),
    _classes("Emotion", "emotion", "Classify the emotion expressed in a Twitter message"),
    _classes("Imdb", "imdb", "Classify the sentiment expressed in a movie review"),
    _classes("MTOPIntent", "mtop_intent:en", "Classify the intent of an utterance in task-oriented conversation"),
    _classes("ToxicConversations", "toxic_conversations_50k", "Classify a comment as toxic or not toxic"),
    _classes("TweetSentimentExtraction", "tweet_sentiment_extraction", "Classify the sentiment of a tweet"),
    _pairs("STS12", "sts12-sts"),
    _pairs("STS22", "sts22-crosslingual-sts:en"),
    _pairs("STSBenchmark", "stsbenchmark-sts"),
    _clusters("arxiv-clustering-p2p", "Identify the category of an arXiv paper from its title and abstract"),
    _clusters("arxiv-clustering-s2s", "Identify the category of an arXiv paper from its title"),
    _clusters("biorxiv-clustering-p2p", "Identify the category of a bioRxiv paper from its title and abstract"),
    _clusters("biorxiv-clustering-s2s", "Identify the category of a bioRxiv paper from its title"),
    _clusters("medrxiv-clustering-p2p", "Identify the category of a medRxiv paper from its title and abstract"),
    _clusters("medrxiv-clustering-s2s", "Identify the category of a medRxiv paper from its title"),
)
"""The sets of the second stage, 228,055 samples in the paper."""


def nv_retriever_v1(model: str = "mistralai/Mistral-7B-v0.1", sources: tuple[BlendSource, ...] = ()) -> Recipe:
    """Return the recipe; another model or other sources (a tiny test) change nothing else.

    Lengths 192/512, LoRA rank 16 alpha 32, lr 1e-5, 100 warm-up steps, 12 epochs a stage. Stage 1: 1 hard negative,
    in-batch negatives, 32 x 4. Stage 2: all tasks, 5 hard negatives, in-batch negatives off, 8 x 16.
    """
    encoder = EncoderConfig(model=model, pooling="mean", normalize=True, document_prompt=DOCUMENT_PROMPT)
    common = TrainingConfig(
        epochs=12,
        accumulation=4,
        temperature=0.02,
        learning_rate=1e-5,
        warmup_steps=100,
        lora=LoraConfig(rank=16, alpha=32),
        query_max_length=192,
        document_max_length=512,
        micro_batch_tokens=16384,
        gradient_checkpointing=True,
        negatives=1,
    )
    second = {"batch_size": 8, "accumulation": 16, "negatives": 5, "in_batch_negatives": False}
    every: tuple[Task, ...] = ("retrieval", "classification", "clustering", "similarity")
    return Recipe(
        student=StudentConfig(encoder=encoder, bidirectional=True, pool_prompt=False, dtype="bfloat16"),
        teacher="intfloat/e5-mistral-7b-instruct",
        rule="topk-percpos(0.95)",
        sources=sources or RETRIEVAL + OTHER_TASKS,
        stages=(
            RecipeStage(name="retrieval", selection="top(1)", training=common),
            RecipeStage(name="blend", tasks=every, selection="top(5)", training=common.model_copy(update=second)),
        ),
    )
