"""The encoding loop: tokens ahead of the model, batches of like length under a token budget, one or more at a time."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from nv_retriever.config import Runtime
from nv_retriever.embedding.loading import Forward, load_forward
from nv_retriever.embedding.plan import Batch, plan_batches
from nv_retriever.errors import InputError
from nv_retriever.hardware import device_kind
from nv_retriever.search.types import FloatArray
from nv_retriever.teachers.identity import EncoderIdentity, Precision, Role
from nv_retriever.teachers.model_folder import ModelFolder

GPU_BATCH_TOKENS = 32768
"""A GPU needs larger batches than a processor's caches like; how texts are batched changes no vector on a CPU."""


class EncodingLoop:
    """One model on one numeric path, on one CPU or on all visible GPUs (a replica on each)."""

    def __init__(self, identity: EncoderIdentity, files: ModelFolder, precision: Precision, runtime: Runtime) -> None:
        self.identity, self.runtime = identity, runtime
        self.kind = device_kind(runtime)
        if self.kind == "cuda" and not torch.cuda.is_available():
            raise InputError("device", "a GPU that torch can use", "none", "use device auto or cpu")
        if runtime.workers is not None and self.kind == "cpu":
            torch.set_num_threads(runtime.workers)
        gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
        self.devices = gpus if self.kind == "cuda" else [torch.device("cpu")]
        self.tokenize, self.forwards = load_forward(identity, files, precision, self.devices)
        # Settled here, since texts are tokenised by another thread later and the tokenizer keeps state.
        self.skip: dict[Role, int] = {role: self._prompt_tokens(role) for role in ("query", "document")}

    def tokens(self, texts: Sequence[str], role: Role) -> list[list[int]]:
        """Return the token ids of texts with the role's prompt, cut at the role's length."""
        prompt = self.identity.prompt(role)
        return self.tokenize([prompt + text for text in texts], self.identity.max_length(role))

    def encode(self, texts: Sequence[str], role: Role) -> FloatArray:
        """Return vectors (n, dim) float32 in the order of `texts`."""
        return self.encode_tokens(self.tokens(texts, role), role)

    def _prompt_tokens(self, role: Role) -> int:
        """Return how many leading tokens are left out of the pooling, as sentence-transformers counts them."""
        prompt = self.identity.prompt(role)
        if self.identity.pool_prompt or not prompt:
            return 0
        alone = self.tokenize([prompt], self.identity.max_length(role))[0]
        return len(alone) - (1 if alone and alone[-1] in self.tokenize.special else 0)

    def encode_tokens(self, tokens: list[list[int]], role: Role) -> FloatArray:
        """Return vectors (n, dim) float32 of token lists."""
        skip = self.skip[role]
        budget = self.runtime.batch_tokens if self.kind == "cpu" else max(self.runtime.batch_tokens, GPU_BATCH_TOKENS)
        batches = plan_batches([len(ids) for ids in tokens], budget)
        found = self._map(lambda forward, batch: forward([tokens[i] for i in batch.tolist()], skip), batches)
        if not found:
            return np.empty((0, 0), np.float32)
        host = np.concatenate([vectors.cpu().numpy() for vectors in found])
        result = np.empty(host.shape, np.float32)
        result[np.concatenate(batches)] = host
        return result

    def _map(self, work: Callable[[Forward, Batch], torch.Tensor], batches: list[Batch]) -> list[torch.Tensor]:
        """Call `work` for every batch, with a forward pass that is free.

        On a CPU each thread takes batches of its own where there are enough: none waits for the others after every product.
        """
        threads, forwards = torch.get_num_threads(), self.forwards
        apart = self.kind == "cpu" and forwards[0].stateless and 1 < threads <= len(batches)
        if apart:
            forwards = forwards * threads
        free: queue.SimpleQueue[Forward] = queue.SimpleQueue()
        for forward in forwards:
            free.put(forward)

        def call(batch: Batch) -> torch.Tensor:
            """Do the work of one batch."""
            forward = free.get()
            try:
                with torch.inference_mode():
                    return work(forward, batch)
            finally:
                free.put(forward)

        if len(forwards) == 1:
            return [call(batch) for batch in batches]
        single = (torch.set_num_threads, (1,)) if apart else (None, ())
        try:
            with ThreadPoolExecutor(len(forwards), "encode", *single) as pool:
                return list(pool.map(call, batches))
        finally:
            torch.set_num_threads(threads)
