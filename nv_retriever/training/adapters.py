"""LoRA (Hu et al. 2021) through peft: added in place, merged into the weights on export."""

from __future__ import annotations

from typing import Any

from nv_retriever.errors import InputError
from nv_retriever.training.config import LoraConfig


def add_adapters(encoder: Any, config: LoraConfig) -> None:
    """Freeze a SentenceTransformer's weights and add low-rank adapters (float32) to its linear layers, in place."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    transformer = encoder[0]
    _check_targets(transformer.auto_model, config)
    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    peft_config = PeftConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=targets)
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    transformer.model = get_peft_model(transformer.auto_model, peft_config, autocast_adapter_dtype=True)


def _check_targets(model: Any, config: LoraConfig) -> None:
    """Raise InputError for a name that no linear layer has: peft ignores those beside others."""
    if isinstance(config.targets, str):
        return
    layers = [name for name, module in model.named_modules() if getattr(getattr(module, "weight", None), "ndim", 0) == 2]
    for target in config.targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in layers}))
            raise InputError("training.lora.targets", f"names of linear layers ({known})", repr(target))


def merge_adapters(encoder: Any) -> None:
    """Add the adapters to the weights and remove them, in place: a plain transformer remains."""
    transformer = encoder[0]
    transformer.model = transformer.auto_model.merge_and_unload()
