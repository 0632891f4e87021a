"""LoRA (Hu et al. 2021) through peft: added in place, merged into the weights on export."""

from __future__ import annotations

from typing import Any

from nv_retriever.training.config import LoraConfig


def add_adapters(encoder: Any, config: LoraConfig) -> None:
    """Freeze a SentenceTransformer's weights and add low-rank adapters (float32) to its linear layers, in place."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    transformer = encoder[0]
    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    peft_config = PeftConfig(r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=targets)
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    transformer.model = get_peft_model(transformer.auto_model, peft_config, autocast_adapter_dtype=True)


def merge_adapters(encoder: Any) -> None:
    """Add the adapters to the weights and remove them, in place: a plain transformer remains."""
    transformer = encoder[0]
    transformer.model = transformer.auto_model.merge_and_unload()
