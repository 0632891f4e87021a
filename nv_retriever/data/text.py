"""The text view of a document, and what counts as the same text: normalisation and content hashes."""

from __future__ import annotations

import hashlib
import string
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError

HashArray = npt.NDArray[np.bytes_]
"""Content hashes, dtype S16; compare them with ==, np.isin, np.unique."""

HASH_BYTES = 16


def normalise(text: str) -> str:
    """Return `text` with compatible characters unified (NFKC), case folded, and white space collapsed and stripped.

    It is idempotent: the order of the steps is Unicode's compatibility caseless matching (definition D146).
    """
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    return " ".join(unicodedata.normalize("NFKC", folded.casefold()).split())


def content_hash(text: str) -> bytes:
    """Return 16 bytes (BLAKE2b) that are equal for texts that are equal after `normalise`."""
    return hashlib.blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()


def content_hashes(texts: Iterable[str]) -> HashArray:
    """Return the content hashes of texts, dtype S16 (n,)."""
    joined = b"".join([content_hash(text) for text in texts])
    return np.frombuffer(joined, dtype=f"S{HASH_BYTES}")


def is_blank(text: str) -> bool:
    """Return whether a text has nothing to embed: no character but white space and invisible ones (controls, BOM, ZWSP)."""
    if text.isspace() or not text:
        return True
    if text[0].isalnum():
        return False
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)


class TextView:
    """The one text of a document that is embedded, mined, trained on and evaluated: a template over title and text.

    >>> TextView("{title} {text}")("", "Only a body. ")
    'Only a body.'
    """

    def __init__(self, template: str) -> None:
        try:
            fields = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template)]
        except ValueError as error:
            raise InputError(
                "document_template", "text with the fields {title} and {text}", f"{template!r} ({error})"
            ) from None
        names = [name for name, _, _ in fields if name is not None]
        if (
            set(names) - {"title", "text"}
            or "text" not in names
            or any(spec or conversion for _, spec, conversion in fields)
        ):
            raise InputError("document_template", "text with the fields {text} and, if wanted, {title}", repr(template))
        self.template = template

    def __call__(self, title: str, text: str) -> str:
        """Return the view of one document, stripped at both ends."""
        return self.template.format(title=title, text=text).strip()

    def views(self, titles: Sequence[str], texts: Sequence[str]) -> list[str]:
        """Return the views of many documents."""
        view = self.template.format
        return [view(title=title, text=text).strip() for title, text in zip(titles, texts, strict=True)]
