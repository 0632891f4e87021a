"""A real embedder without a model: vectors drawn from a hash of the text, so that tests of storage are quick and exact."""

import hashlib

import numpy as np


def hashed_vector(text, dim=8):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


class HashingEmbedder:
    score_kind = "dot"

    def __init__(self, name="hash", dim=8, window_texts=7, poison="", prompts=None):
        self.label, self.dim, self.window_texts, self.poison, self.prompts = name, dim, window_texts, poison, prompts or {}
        self.seen = []

    def space(self, precision):
        return f"{self.label}-{precision}"

    def role_salt(self, role):
        return self.prompts.get(role, "")

    def settle(self, sample, role):
        return "fp32", None

    def encode_windows(self, windows, role, precision):
        for texts in windows:
            self.seen.extend(texts)
            vectors = np.stack([hashed_vector(self.prompts.get(role, "") + text, self.dim) for text in texts])
            for row, text in enumerate(texts):
                if self.poison and self.poison in text:
                    vectors[row, row % self.dim] = np.nan if row % 2 else np.inf
            yield vectors
