"""The sizes of the GGUF files of a model, from its shape alone: also before it is trained, and before its download."""

from __future__ import annotations

from studio.export_folder.gguf_mixtures import WITH_MATRIX, Facts
from studio.export_folder.gguf_types import BLOCKS, size_of, type_of
from studio.model.layer_names import block_number
from studio.model.shapes import Linear, Shape

_KEYS_PER_TOKEN = 36
"""Bytes: text, type and score of a token, and its merge. Between 25 and 45 in widely used tokenizers."""
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.down_proj": "ffn_down",
    "mlp.c_proj": "ffn_down",
    "experts.down_proj": "ffn_down",
    "shared_expert.down_proj": "ffn_down",
    "block_sparse_moe.output_linear": "ffn_down",
}
"""The ends of the names of those layers that some quantizations store in a better type -> their names in GGUF."""


def file_size(shape: Shape, quantization: str) -> int:
    """The bytes of a file of this quantization, within a few per cent."""
    rows = (shape.vocabulary, shape.embedding_width or shape.hidden)
    plain, matrix = BLOCKS["F32"][1], quantization in WITH_MATRIX
    experts = max((linear.experts for linear in shape.linears), default=1)
    facts = Facts(
        shape.layers,
        shape.heads // (shape.kv_heads or shape.heads or 1),
        shape.tied,
        experts if experts > 1 else 0,
    )

    def size(name: str, widths: tuple[int, int], head: bool = False) -> int:
        return size_of(widths, type_of(name, widths, quantization, facts, head, matrix))

    total = size("token_embd.weight", rows, shape.tied)
    if not shape.tied:
        total += size("output.weight", rows, True)
    for linear in shape.linears:
        own = size(_name(linear), (linear.width_out, linear.width_in))
        total += own * linear.experts + plain * (linear.parameters - linear.weights)
    total += plain * (shape.layers * shape.vectors + shape.outside + shape.head_bias)
    return total + _KEYS_PER_TOKEN * shape.vocabulary


def _name(linear: Linear) -> str:
    """The name in GGUF, as far as the type of the layer depends on it."""
    found = next((new for end, new in _NAMES.items() if linear.name.endswith(f".{end}")), "ffn_up")
    return f"blk.{block_number(linear.name) or 0}.{found}.weight"
