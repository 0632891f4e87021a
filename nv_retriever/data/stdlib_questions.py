"""What a developer would ask: a docstring's summary sentence, rephrased by deterministic templates.

The summary leaves the passage when it becomes a question, so that a question is never a verbatim part of its answer.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


_VERBS = words_of(
    """
    abort accept acquire activate add adjust allow append apply arrange ask assert assign associate attach attempt
    bind block break build byte-compile calculate call cancel capture change check choose clean clear close collect
    combine compare compile compress compute concatenate configure connect construct consume control convert copy
    count create deactivate decide decode decompress decorate decrease define delete delegate delay deregister
    describe deserialize destroy detach detect determine disable disassemble discard disconnect dispatch display
    divide download draw dump duplicate emit enable encode encrypt ensure enter enumerate erase escape evaluate
    examine execute exit expand export extend extract feed fetch fill filter find finish fix flash flatten flush
    force fork format gather generate get give go group guess handle hide identify ignore implement import increase
    indent indicate inherit initialize insert inspect install instantiate interpret intersect invert invoke iterate
    join jump keep kill launch leave limit link list listen load locate lock log look lookup loop lower make manage
    map mark match measure merge mock modify monitor move multiply negate normalize notify obtain open output
    override pack pad parse partition patch pause perform permute pick place pop post prepare prepend preserve
    pretty-print prevent print process produce prompt propagate provide pull push put query quit quote raise read
    rebuild receive recompute record recursively redirect reduce refresh register reload remove rename render repeat
    replace report represent request reserve reset resize resolve restore resume retrieve return reverse revert
    rewind rotate round run sample save scale scan schedule scroll search seek select send serialize serve set shift
    show shuffle shut shutdown simulate skip sleep slice solve sort specify split spawn squeeze start stop store
    strip subtract suspend swap switch synchronize take tell terminate test tokenize toggle track transfer transform
    translate traverse truncate try turn unbind undo unescape uninstall unlink unlock unmap unpack unquote
    unregister unset update upgrade upload use validate verify wait wake walk watch wrap write yield zip
    """
)
_ADVERBS = words_of("recursively asynchronously repeatedly immediately gracefully atomically safely temporarily")
_STOP = words_of(
    """
    a an the of to in on at by for from with as is are be been was were it its this that these those and or if
    whether when which who what how do does did i you me my can could should would get any all some into out up no
    not there given used use using
    """
)
_CALL_LINE = re.compile(r"^[\w.*]+(\((?:[^()\n]|\([^()\n]*\))*\)) *:?(?: *(->|=>)|(?= +--?|\s*$)|(?=\s*\n))", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<![ (]e\.g)(?<![ (]i\.e)(?<! etc)(?<! vs)[.!?:](?=\s+[\"'(`*]?[A-Z0-9`]|\s*$)")
_ROLE = re.compile(r":[a-z:]+:`~?!?([^`<]+?)(?:\s*<[^`]*>)?`")
_REFUSED = re.compile(
    r"^(alias|deprecat|internal|same as|see |like |identical|equivalent|similar|convenience|undocumented|not implemented|"
    r"structure/union|an enumeration|hook|note|private|todo|backwards?|compatib|do nothing|does nothing|dummy|"
    r"python \w+ codec|obsolete|for internal|"
    r"this (?:is|method|function|class) (?:is )?(?:deprecated|internal|a hook|undocumented))",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"^(?:(?:a )?(?:boolean|bool|true|false|1|non-?zero)(?: value)?,? )?"
    r"(?:if and only if|only if|iff|if|when|whether(?: or not)?) (.+)$",
    re.IGNORECASE,
)
_OTHERWISE = re.compile(
    r"(?:,| and| or|;)? (?:else |and |or )?(?:false|0|none|not|zero)(?: otherwise| if not| else)?$|,? otherwise.*$", re.I
)
_ODD = re.compile(r"[()\[\]{}<>=|\\:;_@$%^~\"*`&#…]|--|\.\w|\w\.\w|\bself\b|\bcls\b")
_CLAUSE = re.compile(
    r"^(?:(?!\b(?:that|which|who|where|when|whose|if|for|to)\b).)*?"
    r"\b(?:is|are|was|were|has|have|had|will|can|may|must|should|does|do|contains?|holds?|specif(?:y|ies)|returns?|takes?|defaults)\b",
    re.IGNORECASE,
)
"""A noun followed by a verb: a sentence, no noun phrase that could be asked for."""
_NOUN_HEADS = words_of(
    """
    class decorator factory wrapper mixin mix-in interface handler parser base abstract generic simple helper object
    context exception error function method module metaclass descriptor iterator generator container collection
    utility utilities command subclass type event common
    """
)


Forms = tuple[str, str, tuple[str, ...]]
"""The core of a question, the word that links it to a class, the templates that fit."""


class Question(NamedTuple):
    """What is asked about an object."""

    text: str
    """The question."""
    key: str
    """Equal for objects that the same question is about."""


def split_summary(doc: str, signature: str) -> tuple[str, str, str]:
    """Return (signature, first sentence, the rest); call lines that C docstrings begin with serve as the signature."""
    body = doc.strip()
    while match := _CALL_LINE.match(body):
        signature = signature or match.group(1)
        after = body[match.end() :]
        _, _, others = after.partition("\n")
        body = (others if match.group(2) and others.strip() else after).lstrip("-> \n")
    paragraph, _, rest = body.partition("\n\n")
    first, remainder = _first_sentence(paragraph)
    return signature, first, "\n\n".join(part for part in (remainder, rest.strip()) if part)


def _first_sentence(paragraph: str) -> tuple[str, str]:
    flat = " ".join(paragraph.split())
    end = _SENTENCE_END.search(flat)
    return (flat[: end.end()], flat[end.end() :].strip()) if end else (flat, "")


def later_sentences(rest: str) -> list[str]:
    """Return the sentences of the prose paragraphs after the summary, the ones that could be asked about."""
    sentences = []
    for paragraph in rest.split("\n\n"):
        if re.search(r">>>|^ {2,}\S|^[-*] |\t", paragraph, re.MULTILINE):
            continue
        while paragraph:
            sentence, paragraph = _first_sentence(paragraph)
            sentences.append(sentence)
    return sentences


def content_words(text: str) -> list[str]:
    """Return the lower-cased words that carry meaning, without their endings, in order."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower())
    return [re.sub(r"(?<=....)(?:ing|ies|es|ed|s|e)$", "", word) for word in words if word not in _STOP]


def ask(name: str, kind: str, signature: str, summary: str, later: bool = False) -> Question | None:
    """Return the question that a summary sentence (or a `later` one) answers, or None where no natural one can be made.

    `name` is the dotted name; a short question about a method says which class it is about.
    """
    plain = _plain(summary, signature)
    if plain is None:
        return None
    forms = _forms(plain, kind, later)
    if forms is None:
        return None
    core, link, templates = forms
    core = _shorten(core)
    words = core.split()
    if not 2 <= len(words) <= 18 or len(set(content_words(core))) < 2 or _ODD.search(core):
        return None
    if len(set(content_words(core))) < 4:
        core = _in_context(core, name, kind, link)
    if len(set(content_words(core))) < 3:
        return None
    key = core.lower()
    template = templates[int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % len(templates)]
    return Question(template.format(core=core), f"{templates[0]} {key}")


def _plain(summary: str, signature: str) -> str | None:
    """Return a summary without markup, brackets and closing punctuation; None for one that says nothing."""
    text = _ROLE.sub(r"\1", summary.rstrip(" .:;!?,"))
    text = re.sub(r"``?([^`']+)(?:``?|'')", r"\1", text)
    text = re.sub(r"(?<!\w)[*'\"]+([^*'\"]+)[*'\"]+(?!\w)", r"\1", text)
    text = re.sub(r"\s*\([^()]*\)", "", text)
    text = re.sub(r"^(?:module )?\w+ --? ", "", text)
    text = re.sub(r"\s+-\s.*$", "", text)
    text = re.sub(r",? or None(?: (?:if|when|on)\b.*)?$", "", text)
    parameters = set(re.findall(r"[A-Za-z_]\w*", signature))
    text = re.sub(r"\b[A-Z]{2,}\b", lambda m: m.group().lower() if m.group().lower() in parameters else m.group(), text)
    text = re.sub(
        r"\b\w*_\w*\b", lambda m: m.group().strip("_").replace("_", " ") if m.group() in parameters else m.group(), text
    )
    text = " ".join(text.split())
    return None if _REFUSED.match(text) or len(text) < 8 else text


def _base_verb(word: str) -> str | None:
    word = word.lower()
    candidates = (word, word[:-1], word[:-2], word[:-3] + "y") if word.endswith("s") else (word,)
    return next((verb for verb in candidates if verb in _VERBS), None)


def _forms(text: str, kind: str, later: bool) -> Forms | None:
    """Return the core of a question, the word that links it to a class, and the templates that fit it."""
    first, _, rest = text.partition(" ")
    if first.lower() in _ADVERBS and rest:
        adverb, (first, _, rest) = first.lower(), rest.partition(" ")
        rest = f"{rest} {adverb}"
    if found := re.match(r"^raises? (?:an? )?([A-Z]\w+) ((?:if|when|unless) .+)$", text, re.I):
        return _about_error(found.group(1), found.group(2))
    verb = _base_verb(first)
    if verb and rest and not rest.lower().startswith(("of ", "for ", "that ", "class ", "object ")):
        return _about_action(verb, _agree(rest) if first.lower() != verb else rest, kind)
    if found := re.match(
        r"^(?:this|the) (class|module|method|function|exception|object|package) (?!of\b|for\b|to\b)(\w+s\b.*)$", text, re.I
    ):
        return (
            found.group(2),
            "for",
            (f"which {found.group(1).lower()} {{core}}", f"python {found.group(1).lower()} that {{core}}"),
        )
    if found := re.match(
        r"^(?:exception |error |an? (?:exception|error) )?(?:that is |is )?(raised|thrown|signall?ed) (.+)$", text, re.I
    ):
        return (
            found.group(2),
            "by",
            ("which exception is raised {core}", "what error do I get {core}", "what exception should I catch {core}"),
        )
    if found := re.match(r"^(?:this is |is )?(called|invoked|used) (.+)$", text, re.I):
        what = {"property": "attribute"}.get(kind, kind)
        return f"{found.group(1).lower()} {found.group(2)}", "of", (f"which {what} is {{core}}", "what is {core}")
    if (found := _CONDITION.match(text)) and not re.match(r"(?:only )?(?:if|when)\b", text, re.I):
        return _about_condition(found.group(1))
    return None if later or _CLAUSE.match(text) else _about_thing(text, kind)


def _about_error(error: str, condition: str) -> Forms:
    return f"{error} {condition}", "from", ("why do I get {core}", "when do I get {core}", "{core}")


def _agree(rest: str) -> str:
    """Return the rest of a sentence in the third person with its other verbs in the base form."""
    return re.sub(
        r"\b(and|or|then|and then) (\w+s)\b", lambda m: f"{m.group(1)} {_base_verb(m.group(2)) or m.group(2)}", rest
    )


def _about_action(verb: str, rest: str, kind: str) -> Forms | None:
    if verb in ("return", "test", "check", "tell", "determine", "yield", "give") and (found := _CONDITION.match(rest)):
        return _about_condition(found.group(1))
    if verb in ("return", "yield"):
        rest = re.sub(r"^(?:back|in|by|from) .*$", "", rest)
        if not rest or rest.lower().startswith(("true", "false", "none", "a tuple", "self", "value")):
            return None
        templates = (
            "how do I get {core}",
            "how to get {core}",
            "how can I get {core} in python",
            "get {core}",
            "what returns {core}",
        )
        return rest, "from", templates
    what = {"class": "class", "exception": "exception", "module": "module"}.get(kind, "function")
    templates = ("how do I {core}", "how to {core}", "how can I {core}", "{core} in python", f"{what} to {{core}}")
    return f"{verb} {rest}", "with", templates


def _about_condition(condition: str) -> Forms:
    templates = ("how do I check if {core}", "check whether {core}", "how can I tell if {core}", "test if {core} in python")
    return _OTHERWISE.sub("", condition), "for", templates


def _about_thing(text: str, kind: str) -> Forms | None:
    article, _, rest = text.partition(" ")
    if article.lower() in ("a", "an", "the") and rest and kind in ("method", "function", "property"):
        return _about_action("return", f"{article.lower()} {rest}", kind)
    if article.lower() in ("a", "an") and rest:
        lowered = f"{article.lower()} {rest}"
        return lowered, "for", ("is there {core} in python", "is there {core}", "I need {core}")
    if article.lower() == "the" and rest:
        return f"the {rest}", "of", ("what is {core}", "where can I find {core}", "how do I get {core}")
    if article.lower() in _NOUN_HEADS and rest and re.search(r"\b(?:for|to|that|which|of|with|from)\b", rest):
        lowered = article.lower() if article.istitle() else article
        return f"{lowered} {rest}", "for", ("python {core}", "what is the {core}", "{core}")
    if kind == "module" and re.search(r"\b(?:for|to|of|with|from)\b", rest):
        lowered = article if not article.istitle() else article.lower()
        return f"{lowered} {rest}", "for", ("is there a module with {core}", "python module for {core}", "{core} in python")
    return None


def _shorten(core: str) -> str:
    """Return the first clause of a long core."""
    core = re.split(r"; | -- |, (?:but|so|which|where|unless|because|otherwise|and then|e\.g)\b", core)[0]
    if len(core.split()) > 13:
        at = [
            m.start()
            for m in re.finditer(r", | (?:by|using|when|if|so that|unless|without) ", core)
            if len(core[: m.start()].split()) >= 5
        ]
        core = core[: at[0]] if at else core
    core = re.sub(r"\bthis\b", "the", core)
    return core.strip(" ,.;:'\"")


def _in_context(core: str, name: str, kind: str, link: str) -> str:
    """Return a core that says which class a method or property belongs to: `… with a zip file` for ZipFile.open."""
    parts = name.split(".")
    if kind not in ("method", "property") or len(parts) < 2:
        return core
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", parts[-2])
    words = " ".join(found).lower()
    if len(words) < 3:
        return core
    if re.search(rf"\b{words.split()[-1]}\b", core):
        return core if words in core else re.sub(rf"\b{words.split()[-1]}\b", words, core, count=1)
    link = "using" if link == "with" and " with " in core else link
    spelled = len(found[0]) > 1 and found[0].isupper()
    return f"{core} {link} {'an' if words[0] in ('aefhilmnorsx' if spelled else 'aeiou') else 'a'} {words}"
