"""BDH in PyTorch, as functions of a config and a state_dict: what the C++ runtime is compared with.

Written for reading beside kernels/backend.h, which gives the formulas and symbols.
Shapes: T tokens, D width, H heads, N neurons per head, V vocabulary.
"""
import fractions
import math

import torch
from torch.nn import functional

FIELDS = {"n_layer": 6, "n_embd": 256, "dropout": 0.1, "n_head": 4, "mlp_internal_dim_multiplier": 128, "vocab_size": 256}


def config_of(tie_layers=True, **sizes):
    """The six fields in BDHConfig's order, and tie_layers where it is false; those not given have the authors' defaults."""
    fields = {name: sizes.get(name, default) for name, default in FIELDS.items()}
    return fields if tie_layers else dict(fields, tie_layers=False)


def neurons(config):
    return config["mlp_internal_dim_multiplier"] * config["n_embd"] // config["n_head"]


def frequencies(count):
    """(N) float32, turns per token; the two neurons of a pair share one."""
    even = torch.arange(count, dtype=torch.float32).div(2, rounding_mode="floor") * 2
    return 1.0 / (65536 ** (even / count)) / (2 * math.pi)


def layer_name(config, name, layer):
    """What the state_dict calls a layer's weights: encoder, or encoder.3 where each layer has its own."""
    return name if config.get("tie_layers", True) else f"{name}.{layer}"


def random_state(config, generator, std=0.02):
    """A new model's state_dict: normal(0, std) parameters in float32."""
    width, heads, count, vocab = config["n_embd"], config["n_head"], neurons(config), config["vocab_size"]

    def normal(*shape):
        return torch.randn(shape, generator=generator) * std

    def normal_for_layers(name, *shape):
        names = dict.fromkeys(layer_name(config, name, layer) for layer in range(config["n_layer"]))
        return {each: normal(*shape) for each in names}

    return {
        **normal_for_layers("decoder", heads * count, width),
        **normal_for_layers("encoder", heads, width, count),
        **normal_for_layers("encoder_v", heads, width, count),
        "lm_head": normal(width, vocab),
        "attn.freqs": frequencies(count).view(1, 1, 1, count),
        "embed.weight": normal(vocab, width),
    }


def cast(state, dtype):
    """The parameters as dtype; attn.freqs stays float32."""
    return {name: tensor if name == "attn.freqs" else tensor.to(dtype) for name, tensor in state.items()}


def rounded(state, dtype):
    """Parameters rounded to dtype, as float32 numbers."""
    return cast(cast(state, dtype), torch.float32)


def norm(x):
    return functional.layer_norm(x, x.shape[-1:])


def phases(freqs, count, start, exact):
    """Turns at positions start .. start + count - 1, (T, N). Rounded: the product is float32, as the authors' code has it. Exact:
    frac(t f) of integers, f being one over a power of two."""
    if not exact:
        position = torch.arange(start, start + count, dtype=torch.float32).unsqueeze(1)
        return torch.frac(position * freqs)
    whole = 2**80
    fixed = [int(fractions.Fraction(f) * whole) for f in freqs.tolist()]
    return torch.tensor([[t * f % whole / whole for f in fixed] for t in range(start, start + count)], dtype=torch.float64)


def turns(freqs, count, start, exact, dtype):
    """Cosine and sine of each neuron's phase at positions from start on, (T, N)."""
    angle = phases(freqs.float().flatten(), count, start, exact) * (2 * math.pi)
    return torch.cos(angle).to(dtype), torch.sin(angle).to(dtype)


def rotate(n, cos, sin):
    """n (..., T, N): turns each pair by its phase."""
    partner = torch.stack((-n[..., 1::2], n[..., 0::2]), dim=-1).flatten(-2)
    return (n * cos).to(n.dtype) + (partner * sin).to(n.dtype)  # under autocast, as the authors' code rounds


def forward(state, config, tokens, horizon=None, start=0, dropout=0.0):
    """Token numbers (..., T) -> logits (..., T, V), in the parameters' dtype.

    horizon: tokens, for each head: what a token left is worth exp(-distance / horizon), and phases are exact. start: the position
    of the first token. dropout: share of g that is dropped.
    """
    tokens = torch.as_tensor(tokens)
    length = tokens.shape[-1]
    at = torch.arange(length, dtype=torch.float64)
    worth = None
    if horizon is not None:
        worth = torch.exp(-(at[:, None] - at[None, :]).clamp(min=0) / torch.tensor(horizon, dtype=torch.float64)[:, None, None])
    x = norm(state["embed.weight"][tokens].unsqueeze(-3))                      # .. 1 T D
    cos, sin = turns(state["attn.freqs"], length, start, worth is not None, x.dtype)
    for layer in range(config["n_layer"]):
        encoder, encoder_v, decoder = (state[layer_name(config, name, layer)] for name in ("encoder", "encoder_v", "decoder"))
        n = functional.relu(x @ encoder)                                       # .. H T N
        r = rotate(n, cos, sin)
        scores = torch.tril(r @ r.transpose(-1, -2), diagonal=-1)              # .. H T T
        if worth is not None:
            scores = scores * worth.to(scores.dtype)
        attended = scores @ x                                                  # .. H T D
        gated = n * functional.relu(norm(attended) @ encoder_v)                # .. H T N
        gated = functional.dropout(gated, dropout, dropout > 0)
        mixed = gated.transpose(-3, -2).flatten(-2).unsqueeze(-3) @ decoder    # .. 1 T D
        x = norm(x + norm(mixed))
    return x.squeeze(-3) @ state["lm_head"]


@torch.no_grad()
def logits(state, config, tokens, horizon=None, start=0):
    """forward, without gradients."""
    return forward(state, config, tokens, horizon, start)


def parameters(state, dtype=torch.float32):
    """The state_dict with trained parameters of its own; attn.freqs is none."""
    return {name: tensor if name == "attn.freqs" else tensor.to(dtype, copy=True).requires_grad_() for name, tensor in state.items()}


def loss(state, config, tokens, targets, horizon=None, dropout=0.0):
    """Mean cross-entropy in nats; targets of -1 do not count."""
    rows = forward(state, config, tokens, horizon, dropout=dropout).flatten(0, -2)
    return functional.cross_entropy(rows.to(torch.promote_types(rows.dtype, torch.float32)), torch.as_tensor(targets).flatten(), ignore_index=-1)


def greedy(state, config, prompt, count, horizon=None):
    """The count likeliest next tokens, one after the other, reading the whole text again for each."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(logits(state, config, tokens, horizon)[-1].argmax()))
    return tokens[len(prompt):]


def evaluate(state, config, tokens, block=256):
    """Mean cross-entropy in nats over independent blocks; the rest that fills no block is left out."""
    total, count = 0.0, 0
    for start in range(0, len(tokens) - 1 - block, block):
        inputs, targets = tokens[start : start + block], tokens[start + 1 : start + block + 1]
        loss = functional.cross_entropy(logits(state, config, inputs), torch.as_tensor(targets))
        total, count = total + loss.item() * block, count + block
    return total / count
