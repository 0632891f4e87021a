"""Tiny random models as folders, written by hand so that no test needs sentence-transformers to make one."""

import json
import string
import subprocess
import sys
from pathlib import Path

WORDS = ("the", "a", "cat", "dog", "eats", "sleeps", "query", "passage", "river", "night", "old", "new")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = [
    *SPECIAL,
    *WORDS,
    *string.ascii_lowercase,
    *(f"##{c}" for c in string.ascii_lowercase),
    *string.digits,
    ":",
    ".",
]
TEXTS = [
    "the cat eats",
    "a dog sleeps . the old river",
    "night",
    "xyz new new new cat " * 6,
    "a",
    "the cat eats",
    "old dog : new dog " * 9,
    "query the night",
]


def loaded(code, modules):
    """Return which of the modules a fresh Python has loaded after running the code."""
    code = f"{code}; import sys; print(*({modules!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def write_tokenizer(folder, max_length=64):
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    tokenizer = Tokenizer(WordPiece({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def tiny_config(family="bert", **changes):
    from transformers import BertConfig, DistilBertConfig, MistralConfig, MPNetConfig, XLMRobertaConfig

    common = {"vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    common |= {
        "num_attention_heads": 4,
        "max_position_embeddings": 80,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    kinds = {"bert": BertConfig, "xlm-roberta": XLMRobertaConfig, "mpnet": MPNetConfig, "mistral": MistralConfig}
    kinds["distilbert"] = DistilBertConfig
    if family == "mistral":
        common["num_key_value_heads"] = 2
    if family == "distilbert":
        common |= {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}
    return kinds[family](**{**common, **changes})


def write_transformer(folder, family="bert", seed=0, scale=8.0, **changes):
    """Write a plain transformers folder; `scale` enlarges the weights so that texts get distinct vectors."""
    import torch
    from transformers import AutoModel

    Path(folder).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = AutoModel.from_config(tiny_config(family, **changes))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.mul_(scale)
            elif "bias" in name:
                weight.uniform_(-0.5, 0.5)
    model.save_pretrained(str(folder))
    write_tokenizer(Path(folder))
    return Path(folder)


def write_encoder(folder, family="bert", pooling="mean", normalize=True, prompts=None, include_prompt=True, **changes):
    """Write a sentence-transformers folder."""
    folder = write_transformer(folder, family, **changes)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": n, "name": str(n), "path": paths[n], "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(kinds)
    ]
    for path in paths[1 : len(kinds)]:
        (folder / path).mkdir(exist_ok=True)
    pool = {"word_embedding_dimension": 32, "pooling_mode": pooling, "include_prompt": include_prompt}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": pool,
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": prompts or {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if normalize else "dot",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def write_cross_encoder(folder, seed=0, labels=1):
    import torch
    from transformers import BertForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = BertForSequenceClassification(tiny_config("bert", num_labels=labels))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8.0)
    model.save_pretrained(str(folder))
    write_tokenizer(folder)
    return folder
