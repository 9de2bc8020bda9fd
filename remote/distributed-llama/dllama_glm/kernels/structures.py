"""What the kernels of a forward pass are given by address: the model's facts, a layer's weights, room to work in.

Fields hold numbers, or addresses of arrays that `devices/cpu.py` keeps alive; an address of 0 means that there is none.
"""

import numpy as np

from dllama_glm.kernels.build import record

MODEL = np.dtype(
    [(name, np.int64) for name in (
        "dim", "heads", "kv_heads", "head_dim", "padded",  # padded: head_dim up to a multiple of 16
        "kind",  # how weights are stored, plus rows.BYTES where activations are bytes
        "wide",  # 1: keys and values in float32; 0: in halves
        "capacity", "window",  # positions of the cache, a multiple of 16; positions that a token sees
        "keys", "values",  # of all layers; their layout is told in attention.py
        "first_heads",  # int64 [kv_heads + 1]: where the query heads of each KV head begin
        "pairs", "interleaved",  # what the rotary embedding turns
        "experts", "active", "shared", "slot_width",  # shared: 1 if a last expert sees every token
        "sigmoid", "normalise", "groups", "groups_kept",
        "threads", "scratch", "scratch_size",
    )] + [("eps", np.float64), ("scale", np.float32), ("routed_scale", np.float32)]
)  # fmt: skip

# One expert, or the one network of a dense layer: its three matrices (width rows, width columns for down).
EXPERT = np.dtype([(name, np.int64) for name in ("gate", "up", "down", "stride", "down_stride", "width")])

LAYER = np.dtype([
    (name, np.int64) for name in (
        "number", "attention_norm", "q", "k", "v", "o", "stride", "o_stride", "bias", "q_norm", "k_norm",
        "attention_post", "mlp_norm", "mlp_post",
        "router", "correction",  # 0: a dense layer, whose one network is the only expert
        "experts",
    )
])  # fmt: skip

# Room for a pass over `tokens` tokens. Rows of float32, strides in brackets: x and partial [dim], normed [row], qkv
# [heads and twice the KV heads], q [heads x padded], mixed [heads x head_dim], gated [2 x slot_row], y [dim],
# logits and score [experts], shares [active], cos and sin [pairs]. Signed bytes with scales and offsets (`row` / 32 of
# each, side by side): codes, scales; of the slots (stride slot_row): slot_codes, slot_scales. Numbers (int64): chosen
# [active], place [slots a token], token [slots]: whose a slot is, start [experts + 2]: each expert's first slot.
ROOM = np.dtype([
    (name, np.int64) for name in (
        "tokens", "row", "slot_row", "x", "partial", "normed", "qkv", "q", "mixed", "gated", "y", "logits", "score",
        "shares", "cos", "sin", "codes", "scales", "slot_codes", "slot_scales", "chosen", "place", "token", "start",
        "jobs",
    )
])  # fmt: skip

model_at, expert_at, layer_at, room_at = (record(dtype) for dtype in (MODEL, EXPERT, LAYER, ROOM))
EXPERT_BYTES, LAYER_BYTES = EXPERT.itemsize, LAYER.itemsize
