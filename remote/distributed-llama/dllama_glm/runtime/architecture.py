"""What a model is, as the forward pass sees it: sizes, rotary style, norms and routing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3's stretching of the rotary wavelengths."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_seq_len: int


@dataclass(frozen=True)
class Rotary:
    """How positions turn the first `dims` values of each head.

    `interleaved`: pairs are (2j, 2j + 1); otherwise (j, j + dims / 2).
    """

    theta: float
    dims: int
    interleaved: bool
    scaling: Llama3Scaling | None = None


@dataclass(frozen=True)
class Routing:
    """How the router's logits become experts and their weights.

    `sigmoid`: scores are sigmoids, otherwise a softmax over all experts. `corrected`: a bias shifts the choice, but not
    the weights. `normalise`: the chosen scores are made to sum to one before `scale`.
    """

    experts: int
    active: int
    sigmoid: bool
    normalise: bool
    scale: float = 1.0
    groups: int = 1
    groups_kept: int = 1
    corrected: bool = False


@dataclass(frozen=True)
class Architecture:
    """The sizes and switches of one model. `routing` is None for a dense model.

    Layers below `first_dense_layers` are dense in a mixture of experts too. `post_norms`: the results of attention
    and MLP are normed before they are added (dense GLM-4). `window`: how many positions a token sees, its own
    included; at least `max_seq_len` where it sees all.
    """

    name: str
    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    dense_width: int
    expert_width: int
    shared_experts: int
    first_dense_layers: int
    vocab_size: int
    max_seq_len: int
    norm_eps: float
    rotary: Rotary
    routing: Routing | None
    attention_bias: bool
    qk_norm: bool
    post_norms: bool
    window: int

    def is_dense(self, layer: int) -> bool:
        """Whether this layer's MLP is one dense network, without experts."""
        return self.routing is None or layer < self.first_dense_layers
