"""The text view of a document, and what counts as the same text: normalisation and content hashes."""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError

HashArray = npt.NDArray[np.bytes_]
"""Content hashes, dtype S16; compare them with ==, np.isin, np.unique."""

HASH_BYTES = 16

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
"""Unicode's Default_Ignorable_Code_Point: soft hyphens, zero-width spaces, byte order marks, variation selectors."""


def normalise(text: str) -> str:
    """Return `text` without invisible characters, compatible ones unified (NFKC), case folded, and white space collapsed.

    It is idempotent: the steps are those of Unicode's identifier caseless matching (definition D147).
    """
    if text.isascii():
        return " ".join(text.lower().split())
    visible = _INVISIBLE.sub("", text)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", visible).casefold())
    return " ".join(unicodedata.normalize("NFKC", folded.casefold()).split())


def content_hash(text: str) -> bytes:
    """Return 16 bytes (BLAKE2b) that are equal for texts that are equal after `normalise`."""
    return hashlib.blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()


def content_hashes(texts: Iterable[str]) -> HashArray:
    """Return the content hashes of texts, dtype S16 (n,)."""
    joined = b"".join([content_hash(text) for text in texts])
    return np.frombuffer(joined, dtype=f"S{HASH_BYTES}")


def is_blank(text: str) -> bool:
    """Return whether a text has nothing to embed: no character but white space, controls and other invisible ones."""
    if text.isspace() or not text:
        return True
    if text[0].isascii() and text[0].isalnum():
        return False
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in _INVISIBLE.sub("", text))


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
