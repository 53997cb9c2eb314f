"""Checkpoints as public repositories save them: bdh gives their own code's logits, or refuses them by name.

    python dialects_parity.py check --bdh build/bdh [--draws 60 --seed N]    every dialect and refusal, and references drawn anew
    python dialects_parity.py write                                          writes tests/data/dialects anew

Logits may differ by 1e-5 of the largest, or four times PyTorch's own error where that is more.
"""
import argparse
import collections
import dataclasses
import json
import math
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import types

import numpy
import torch
from safetensors.torch import save_file
from torch.nn import functional

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "dialects"
TOLERANCE = 1e-5
VOCAB, WIDTH, HEADS = 16, 8, 2
TOKENS = [3, 7, 5, 5, 15, 0, 11, 7, 9, 3, 14]
FORMS = (("--form", "parallel"), ("--form", "recurrent"), ("--form", "chunked", "--chunk", "4"))


# --- models: roles, not names

@dataclasses.dataclass
class Model:
    layers: list          # of (encoder (H, D, N), encoder_v (H, D, N), decoder (H*N, D))
    embed: torch.Tensor   # (V, D)
    head: torch.Tensor    # (D, V)
    freqs: torch.Tensor   # (N), turns per token
    halves: bool = False  # rotation pairs i with i + N/2, base 10000
    scale: float = 1.0    # of scores
    rho: torch.Tensor = None  # (L, H, N)

    @property
    def neurons(self):
        return self.layers[0][0].shape[2]

    def config(self):
        return {"n_layer": len(self.layers), "n_embd": WIDTH, "dropout": 0.1, "n_head": HEADS,
                "mlp_internal_dim_multiplier": self.neurons * HEADS // WIDTH, "vocab_size": VOCAB}


def frequencies(count):
    even = torch.floor(torch.arange(count, dtype=torch.float32) / 2) * 2
    return 1.0 / (65536 ** (even / count)) / (2 * math.pi)


class Smallest(random.Random):
    """Draws the smallest model."""

    def choice(self, choices):
        return choices[0]


def drawn(draw, **kind):
    """A random model that is well-conditioned: PyTorch's own error is small."""
    while True:
        model = random_model(draw, **kind)
        if own_error(model) < TOLERANCE / 10:
            return model


def random_model(draw, own=False, tied=False, **changes):
    """`own`: weights for each layer."""
    neurons, layers = draw.choice((8, 12, 16)), draw.choice((2, 3))
    generator = torch.Generator().manual_seed(draw.randrange(2**31))

    def normal(*shape):
        return torch.randn(shape, generator=generator) * 0.3

    def layer():
        return normal(HEADS, WIDTH, neurons), normal(HEADS, WIDTH, neurons), normal(HEADS * neurons, WIDTH)

    stack = [layer() for _ in range(layers)] if own else [layer()] * layers
    embed = normal(VOCAB, WIDTH)
    head = embed.t() if tied else normal(WIDTH, VOCAB)
    return Model(stack, embed, head, frequencies(neurons), **changes)


def rotated(model, x):
    time = torch.arange(x.shape[-2], dtype=torch.float32).unsqueeze(-1)
    half = model.neurons // 2
    if model.halves:
        angle = time / 10000 ** (torch.arange(half, dtype=torch.float32) / half)
        angle = torch.cat((angle, angle), -1).to(x.dtype)
        turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    else:
        angle = ((time * model.freqs.float()) % 1).to(x.dtype) * (2 * math.pi)
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * angle.cos() + turned * angle.sin()


def norm(x):
    return functional.layer_norm(x, x.shape[-1:])


def forward(model, dtype=torch.float32, tokens=TOKENS):
    """Logits (T, V) after each of the tokens."""
    x = norm(model.embed.to(dtype)[tokens])
    for i, (encoder, encoder_v, decoder) in enumerate(model.layers):
        neurons = torch.relu(x @ encoder.to(dtype))
        turned = rotated(model, neurons)
        attended = (turned @ turned.transpose(-1, -2) * model.scale).tril(-1) @ x
        gated = neurons * torch.relu(norm(attended) @ encoder_v.to(dtype))
        if model.rho is not None:
            gated = gated * (1 + model.rho[i].to(dtype).unsqueeze(1))
        mixed = gated.transpose(0, 1).flatten(1) @ decoder.to(dtype)
        x = norm(x + norm(mixed))
    return (x @ model.head.to(dtype)).float()


def relative_difference(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def own_error(model):
    return relative_difference(forward(model), forward(model, torch.float64))


# --- names

def reference(model, freqs=True):
    encoder, encoder_v, decoder = model.layers[0]
    state = {"decoder": decoder, "encoder": encoder, "encoder_v": encoder_v, "lm_head": model.head.contiguous()}
    if freqs:
        state["attn.freqs"] = model.freqs.view(1, 1, 1, -1)
    return {**state, "embed.weight": model.embed}


def of_layers(model, encoder, encoder_v, decoder):
    """Patterns of names, the layer's number for the star."""
    state = {"attn.freqs": model.freqs.view(1, 1, 1, -1), "embed.weight": model.embed, "lm_head": model.head.contiguous()}
    for i, weights in enumerate(model.layers):
        state.update((pattern.replace("*", str(i)), weight) for pattern, weight in zip((encoder, encoder_v, decoder), weights))
    return state


def paper(model):
    encoder, encoder_v, decoder = model.layers[0]
    return {"encoder": decoder, "decoder_x": encoder, "decoder_y": encoder_v, "wte.weight": model.embed, "readout": model.head.contiguous()}


def with_tables(model):
    """Tables of positions beside the weights, in the attention and again in each layer."""
    state = of_layers(model, "layers.*.encoder", "layers.*.encoder_v", "layers.*.decoder")
    angle = torch.outer(torch.arange(3.0), model.freqs)
    tables = {"attn._cos_cached": angle.cos(), "attn._sin_cached": angle.sin(), "attn._freq_cplx": torch.polar(torch.ones_like(angle), angle),
              "attn.freqs": model.freqs.view(1, 1, 1, -1)}
    for i in range(len(model.layers)):
        state.update((f"layers.{i}.{name}", table) for name, table in tables.items())
    return {**state, **tables}


def turned_head(state):
    """lm_head.weight (V, D) for lm_head."""
    return {**{name: tensor for name, tensor in state.items() if name != "lm_head"}, "lm_head.weight": state["lm_head"].t().contiguous()}


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


# --- configs as objects

@dataclasses.dataclass
class BDHConfig:
    n_layer: int = 6
    n_embd: int = 256
    dropout: float = 0.1
    n_head: int = 4
    mlp_internal_dim_multiplier: int = 128
    vocab_size: int = 256
    alibi_slope: float = 0.0
    diff_attn: bool = False


@dataclasses.dataclass(slots=True)
class SlottedConfig:
    n_layer: int
    n_embd: int
    dropout: float
    n_head: int
    mlp_internal_dim_multiplier: int
    vocab_size: int


class PydanticConfig:
    """Pickled as a pydantic.BaseModel is."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def __getstate__(self):
        return {"__dict__": self.__dict__, "__pydantic_extra__": None, "__pydantic_fields_set__": set(self.__dict__), "__pydantic_private__": None}

    def __setstate__(self, state):
        self.__dict__.update(state["__dict__"])


class AttributeDict(dict):
    __getattr__ = dict.__getitem__




def with_numpy(config):
    return {key: numpy.float64(value) if isinstance(value, float) else numpy.int64(value) for key, value in config.items()}


def by_other_names(config):
    return {"num_layers": config["n_layer"], "d_model": config["n_embd"], "n_heads": config["n_head"],
            "mlp_multiplier": config["mlp_internal_dim_multiplier"], "vocab_size": config["vocab_size"], "lr": 1e-3}


CONFIGS = {
    "dict": dict,
    "dataclass": lambda config: BDHConfig(**config),
    "slots": lambda config: SlottedConfig(**config),
    "namespace": lambda config: argparse.Namespace(**config, compile=True, out=None),
    "simple_namespace": lambda config: types.SimpleNamespace(**config),
    "pydantic": lambda config: PydanticConfig(**config),
    "attribute_dict": AttributeDict,
    "ordered_dict": collections.OrderedDict,
    "default_dict": lambda config: collections.defaultdict(int, config),
    "numpy": with_numpy,
    "other_names": by_other_names,
    "in_model": lambda config: {"model": config, "data": {"path": pathlib.PurePosixPath("x")}},
    "in_params": lambda config: {"params": config},
    "in_model_params": lambda config: {"seed": 1, "model": {"name": "bdh", "params": config}},
    "namespace_in_namespace": lambda config: types.SimpleNamespace(model=types.SimpleNamespace(**config)),
}
GOLDEN_CONFIGS = ("pydantic", "numpy")
CONFIG_KEYS = ("config", "cfg", "model_config", "bdh_config", "hyper_parameters", "hparams", "model_args", "args", "training_config")
WRAPPERS = ("model_state_dict", "state_dict", "model", "model_state", "bdh_state_dict", "module", "net")
PREFIXES = ("", "module.", "_orig_mod.", "model.", "network.", "_orig_mod.module.", "module._orig_mod.", "model._orig_mod.")


class Attention(torch.nn.Module):
    def __init__(self, freqs):
        super().__init__()
        self.register_buffer("freqs", freqs)


class BDH(torch.nn.Module):
    """A module of the reference's parameters, to be saved whole."""

    def __init__(self, model, config):
        super().__init__()
        self.config = config
        for name, tensor in reference(model).items():
            if "." not in name:
                setattr(self, name, torch.nn.Parameter(tensor))
        self.attn = Attention(model.freqs.view(1, 1, 1, -1))
        self.embed = torch.nn.Embedding.from_pretrained(model.embed, freeze=False)
        self.drop = torch.nn.Dropout(0.1)


# --- cases

@dataclasses.dataclass
class Case:
    file: str
    saved: object
    model: Model = None    # whose logits are wanted
    refused: str = ""      # what the refusal must say
    config: dict = None    # given beside the file
    options: dict = dataclasses.field(default_factory=dict)  # of torch.save
    golden: bool = True

    def write(self, directory):
        path = directory / self.file
        if path.suffix == ".safetensors":
            save_file({name: tensor.contiguous() for name, tensor in self.saved.items()}, path, {"format": "pt"})
        elif path.suffix == ".npz":
            save = numpy.savez_compressed if self.options else numpy.savez
            save(path, **{name: tensor.numpy() for name, tensor in self.saved.items()})
        else:
            torch.save(self.saved, path, **self.options)
        return path


def checkpoint(model, state, config=None, **more):
    return {"model_state_dict": state, "config": model.config() if config is None else config, "step": 3, **more}




def references(draw):
    for name, make in CONFIGS.items():
        model = drawn(draw)
        yield Case(f"config_{name}.pt", checkpoint(model, reference(model), make(model.config())), model, golden=name in GOLDEN_CONFIGS)
    model = drawn(draw)
    yield Case("wrapped_config.pt", {"state_dict": prefixed("model.", reference(model)), "hyper_parameters": {"config": BDHConfig(**model.config())}}, model, golden=False)
    model = drawn(draw)
    yield Case("flat_config.pt", {**reference(model), "config": model.config()}, model)
    for wrapper in WRAPPERS[1:]:
        model = drawn(draw)
        saved = {"model": {"n_layer": 7, "lr": 0.1}, "model_state_dict": {}, "state_dict": None, **model.config(), wrapper: reference(model)}
        yield Case(f"config_under_wrapper_{wrapper}.pt", saved, model, golden=wrapper == "net")
    model = drawn(draw)
    yield Case("config_function.pt", checkpoint(model, reference(model), {**model.config(), "activation": functional.relu}), model, golden=False)
    model = drawn(draw)
    yield Case("head_weight.pt", checkpoint(model, turned_head(reference(model))), model, golden=False)
    model = drawn(draw)
    yield Case("legacy.pt", checkpoint(model, prefixed("_orig_mod.", reference(model)), BDHConfig(**model.config())), model,
               options={"_use_new_zipfile_serialization": False})
    model = drawn(draw)
    yield Case("whole.pt", BDH(model, BDHConfig(**model.config())), model, golden=False)
    model = drawn(draw)
    yield Case("whole_legacy.pt", BDH(model, BDHConfig(**model.config())), model, options={"_use_new_zipfile_serialization": False}, golden=False)
    model = drawn(draw)
    yield Case("whole_wrapped.pt", {"model": BDH(model, argparse.Namespace(**model.config())), "epoch": 1}, model, golden=False)
    model = drawn(draw)
    yield Case("whole_parallel.pt", torch.nn.DataParallel(BDH(model, types.SimpleNamespace(**model.config()))), model)
    model = drawn(draw)
    yield Case("parameters.pt", checkpoint(model, {name: torch.nn.Parameter(tensor) for name, tensor in reference(model).items()}), model, golden=False)




def transformers(draw):
    for name, tied, said in (("tied", True, {}), ("tied_said", True, {"tie_word_embeddings": True}), ("untied", False, {"tie_word_embeddings": False})):
        model = drawn(draw, tied=tied)
        state = {name: tensor for name, tensor in reference(model, freqs=False).items() if name != "lm_head"}
        state = prefixed("backbone.", state)
        if not tied:
            state["lm_head.weight"] = model.head.t().contiguous()
        own = model.config()
        config = {"model_type": "bdh", "num_hidden_layers": own["n_layer"], "hidden_size": WIDTH, "num_attention_heads": HEADS,
                  "mlp_internal_dim_multiplier": own["mlp_internal_dim_multiplier"], "vocab_size": VOCAB, **said}
        yield Case(f"transformers_{name}.safetensors", state, model, config=config, golden=name != "tied_said")
        yield Case(f"transformers_{name}.bin", state, model, config=config, golden=False)


def layered(draw):
    model = drawn(draw, own=True)
    yield Case("layers_own.pt", checkpoint(model, of_layers(model, "encoder.*", "encoder_v.*", "decoder.*")), model, golden=False)
    model = drawn(draw, own=True)
    yield Case("layers_modules.pt", checkpoint(model, of_layers(model, "layers.*.encoder", "layers.*.encoder_v", "layers.*.decoder")), model, golden=False)
    model = drawn(draw, own=True)
    model.rho = torch.rand(len(model.layers), HEADS, model.neurons) * 2
    state = {**of_layers(model, "encoders.*", "encoders_v.*", "decoders.*"), "rho": model.rho}
    yield Case("layers_rho.pt", checkpoint(model, state, {**model.config(), "per_layer_encoders": True, "rho_decay": 0.9, "rho_max": 5.0}), model)
    model = drawn(draw, own=True)
    yield Case("layers_without_rho.pt", checkpoint(model, of_layers(model, "encoders.*", "encoders_v.*", "decoders.*")), model, golden=False)
    model = drawn(draw, own=True)
    model.scale = model.neurons ** -0.5
    plain = {"diff_attn": False, "attn_window": 0, "forget_mode": "none", "per_head_v": False}
    yield Case("layers_scaled.pt", checkpoint(model, with_tables(model), {**model.config(), **plain}), model)
    plain_names = {name: tensor for name, tensor in with_tables(model).items() if not name.endswith("_freq_cplx")}
    yield Case("layers_scaled_before_options.pt", checkpoint(model, plain_names), model)
    yield Case("layers_scaled_with_options.pt", checkpoint(model, with_tables(model), {**model.config(), **plain, "diff_attn": True}), refused="diff_attn", golden=False)
    yield Case("layers_scaled_unsaid.pt", checkpoint(model, with_tables(model)), refused="diff_attn", golden=False)


def rotations(draw):
    model = drawn(draw, halves=True)
    yield Case("halves.pt", {"epoch": 1, "model_state_dict": paper(model)}, model, config=model.config())
    for name in ("negative", "unequal"):
        model = drawn(draw)
        model.freqs = model.freqs * (1 + torch.randn(model.neurons) * (0.05 if name == "unequal" else 0.8))
        state = {"embed_weight": model.embed, "attn_freqs": model.freqs.view(1, 1, 1, -1)}
        state.update((key, tensor) for key, tensor in reference(model).items() if "." not in key)
        yield Case(f"underscores_{name}.npz", state, model, config=model.config())
        yield Case(f"underscores_{name}_deflated.npz", state, model, config=model.config(), options={"deflated": True}, golden=False)
        yield Case(f"trained_{name}.pt", checkpoint(model, reference(model)), model, golden=False)
    for dtype in (torch.bfloat16, torch.float16):
        for name in ("merged", "grown", "lawless"):
            yield of_sixteen_bits(draw, name, dtype)
        model = drawn(draw)
        state = {key: tensor.to(dtype) for key, tensor in reference(model).items()}
        yield Case(f"formula_{str(dtype)[6:]}.pt", checkpoint(model, state), rounded(model, dtype), golden=False)
        within = rounded(model, dtype)
        within.freqs = model.freqs.to(dtype).float()
        yield Case(f"network_{str(dtype)[6:]}.pt", {"model": prefixed("network.", state)}, within, config=model.config(), golden=dtype is torch.float16)


def rounded(model, dtype):
    def both(tensor):
        return tensor.to(dtype).float()
    return dataclasses.replace(model, layers=[tuple(map(both, layer)) for layer in model.layers], embed=both(model.embed), head=both(model.head))


def law(name, model):
    """Frequencies of two models' neurons side by side, of a model half of whose neurons came later, or of no law."""
    half = model.neurons // 2
    even = torch.floor(torch.arange(half, model.neurons, dtype=torch.float32) / 2) * 2
    later = {"merged": frequencies(half), "grown": 1.0 / (2 ** (16 ** (even / model.neurons))) / (2 * math.pi), "lawless": torch.rand(half) / 9}
    return torch.cat((frequencies(half), later[name]))


def of_sixteen_bits(draw, name, dtype):
    """All of the model cast: frequencies of a known law were run unrounded."""
    model = drawn(draw)
    model.freqs = law(name, model)
    state = {key: tensor.to(dtype) for key, tensor in reference(model).items()}
    want = rounded(model, dtype)
    if name == "lawless":
        want.freqs = model.freqs.to(dtype).float()
    return Case(f"{name}_{str(dtype)[6:]}.pt", checkpoint(model, state), want, golden=(name, dtype) == ("grown", torch.float16))


OTHER_KEYS = {"alibi_slope": 0.2, "k_sparse_ratio": 0.1, "attn_window": 8, "hebbian_lr": 0.01, "diff_attn": True, "compute_ticks": 2,
              "latent_reasoning_steps": 3, "strict_causal": False}


def refusals(draw):
    model = drawn(draw)
    small = torch.zeros(3)
    state, config = reference(model), model.config()
    for key, value in OTHER_KEYS.items():
        yield Case(f"other_{key}.pt", checkpoint(model, state, {**config, key: value}), refused=key, golden=key in ("alibi_slope", "strict_causal"))
        yield Case(f"other_{key}_object.pt", checkpoint(model, state, types.SimpleNamespace(**config, **{key: value})), refused=key, golden=False)
        yield Case(f"other_{key}_scalar.pt", checkpoint(model, state, {**config, key: numpy.array(value)[()]}), refused=key, golden=False)
        yield Case(f"other_{key}_inner.pt", checkpoint(model, state, {"model": {**config, key: value}}), refused=key, golden=False)
        yield Case(f"other_{key}_array.pt", checkpoint(model, state, {**config, key: numpy.array([value, value])}), refused=key, golden=False)
        yield Case(f"other_{key}_half.pt", checkpoint(model, state, {**config, key: numpy.float16(value) if value else numpy.array(value)}), refused=key, golden=False)
        yield Case(f"other_{key}_tensor.pt", checkpoint(model, state, {**config, key: torch.tensor(value)}), refused=key, golden=key == "alibi_slope")
        yield Case(f"other_{key}_beside.pt", checkpoint(model, state, args=argparse.Namespace(**{key: value})), refused=key, golden=key == "k_sparse_ratio")
        yield Case(f"other_{key}_outer.pt", checkpoint(model, state, {"model": config, key: value}), refused=key, golden=False)
        yield Case(f"other_{key}_flat.pt", {**state, "config": {**config, key: value}}, refused=key, golden=key == "hebbian_lr")
        yield Case(f"other_{key}_given.pt", state, refused=key, config={**config, key: value}, golden=False)
        yield Case(f"other_{key}_own_and_given.pt", checkpoint(model, state, {**config, key: value}), refused=key, config=config, golden=False)
    alibi = BDHConfig(**config, alibi_slope=0.2)
    yield Case("other_whole.pt", BDH(model, alibi), refused="alibi_slope", golden=False)
    yield Case("other_parallel.pt", torch.nn.DataParallel(BDH(model, alibi)), refused="alibi_slope", config=config, golden=False)
    yield Case("other_dataclass.pt", checkpoint(model, state, alibi), refused="alibi_slope", golden=False)
    names = {
        "masked": ({**paper(model), **{f"mask_{name}": small for name in ("encoder", "decoder_x", "decoder_y")}}, "softmax"),
        "letters": ({"E": small, "Dx": small, "Dy": small, "readout": small, "emb.weight": small}, "causal"),
        "norm": ({**turned_head(reference(model, freqs=False)), "ln.weight": small, "ln.bias": small}, "norm"),
        "gates": ({**state, "attn.wf": small, "attn.wi": small}, "gates"),
        "positions": ({**state, "pos_emb.weight": small}, "pos_emb.weight"),
        "adapters": ({**state, "encoder.lora_A.default.weight": small}, "lora_"),
        "unknown": ({"transformer.h.0.attn.c_attn.weight": small, "transformer.wte.weight": small}, "no BDH model"),
    }
    for name, (tensors, words) in names.items():
        yield Case(f"names_{name}.pt", checkpoint(model, tensors), refused=words)
        yield Case(f"names_{name}_bare.pt", tensors, refused=words, config=config, golden=False)
        yield Case(f"names_{name}.safetensors", {key: tensor.clone() for key, tensor in tensors.items()}, refused=words, config=config, golden=False)
    without = {key: value for key, value in config.items() if key != "n_layer"}
    yield Case("without_n_layer.pt", checkpoint(model, state, without), refused="n_layer")
    yield Case("without_config.pt", state, refused="n_layer", golden=False)
    yield Case("contradiction.pt", checkpoint(model, state), refused="n_layer", config={**config, "n_layer": 5})


def cases(draw):
    for family in (references, transformers, layered, rotations, refusals):
        yield from family(draw)


def random_reference(draw, number):
    """The reference under any prefix, wrapper, key and kind of config, in either format."""
    model = drawn(draw)
    wrapper, key = draw.choice(WRAPPERS), draw.choice(CONFIG_KEYS)
    config = CONFIGS[draw.choice(list(CONFIGS))](model.config())
    saved = {"epoch": 1, key: config, wrapper: prefixed(draw.choice(PREFIXES), reference(model, freqs=draw.random() < 0.8))}
    if draw.random() < 0.5:
        saved = dict(reversed(saved.items()))
    options = {"_use_new_zipfile_serialization": draw.random() < 0.7, "pickle_protocol": draw.choice((2, 3, 4, 5))}
    return Case(f"drawn{number}_{wrapper}_{key}.pt", saved, model, options=options)


# --- check and write

class Command:
    def __init__(self, path, folder):
        self.path, self.folder = path.resolve(), folder

    def run(self, *arguments):
        return subprocess.run([str(self.path), *map(str, arguments)], capture_output=True, stdin=subprocess.DEVNULL)

    def convert(self, case):
        given = self.folder / "given.json"
        if case.config:
            given.write_text(json.dumps(case.config))
        return self.run("convert", case.write(self.folder), self.folder / "model", "--overwrite", *(("--config", given) if case.config else ()))

    def logits(self, form):
        out = self.folder / "logits"
        done = self.run("logits", self.folder / "model", "--tokens", ",".join(map(str, TOKENS)), "--dtype", "f32", "--out", out, *form)
        if done.returncode != 0:
            return done.stderr.decode()
        raw = out.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        return torch.frombuffer(bytearray(raw[8 + length:]), dtype=torch.float32).view(len(TOKENS), VOCAB)


def check_refused(command, case):
    done = command.convert(case)
    said = done.stderr.decode()
    good = done.returncode == 1 and said.count("\n") == 1 and case.refused in said.replace(case.file, "") and "damaged" not in said
    return [] if good else [f"{case.file}: exit code {done.returncode}, wanted a line with {case.refused!r}: {said.strip()[:300]}"]


def check_accepted(command, case):
    done = command.convert(case)
    if done.returncode != 0:
        return [f"{case.file}: exit code {done.returncode}: {done.stderr.decode().strip()[:300]}"]
    want, bound, bad = forward(case.model), max(TOLERANCE, 20 * own_error(case.model)), []
    for form in FORMS:
        got = command.logits(form)
        if isinstance(got, str):
            bad.append(f"{case.file}: {got}")
        elif not relative_difference(got, want) <= bound:
            bad.append(f"{case.file}, {form[1]}: {relative_difference(got, want):.1e} apart")
    return bad


def check(bdh, draw, draws):
    counts, bad = collections.Counter(), []
    drawn_cases = (random_reference(draw, number) for number in range(draws))
    with tempfile.TemporaryDirectory() as folder:
        command = Command(bdh, pathlib.Path(folder))
        for case in (*cases(draw), *drawn_cases):
            counts["refused" if case.refused else "accepted"] += 1
            bad += (check_refused if case.refused else check_accepted)(command, case)
    for line in bad:
        print("FAILED:", line)
    print(f"dialects: {counts['accepted']} checkpoints give their own logits in three forms, {counts['refused']} are refused by name; "
          f"{len(bad)} failures")
    return 1 if bad else 0


def without_weights(saved):
    """The same names and config: enough to be refused."""
    if isinstance(saved, torch.Tensor):
        return torch.zeros(1)
    return {key: without_weights(value) for key, value in saved.items()} if isinstance(saved, dict) else saved


def write(draw):
    DATA.mkdir(parents=True, exist_ok=True)
    expected = {}
    for case in cases(draw):
        if not case.golden:
            continue
        if case.refused:
            case.saved = without_weights(case.saved)
        case.write(DATA)
        expected[case.file] = {"config": case.config} if case.config else {}
        if case.refused:
            expected[case.file]["refused"] = case.refused
        else:
            expected[case.file].update(tokens=TOKENS, last=[float(f"{logit:.9g}") for logit in forward(case.model)[-1].tolist()])
    (DATA / "cases.json").write_text("{\n" + ",\n".join(f"{json.dumps(file)}: {json.dumps(case)}" for file, case in expected.items()) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "write"])
    parser.add_argument("--bdh", type=pathlib.Path, help="the bdh program")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = 1 if arguments.action == "write" else random.SystemRandom().randrange(2**31)
    draw = (Smallest if arguments.action == "write" else random.Random)(arguments.seed)
    torch.manual_seed(arguments.seed)
    if arguments.action == "write":
        return write(draw)
    if not arguments.bdh:
        parser.error("check needs --bdh build/bdh")
    print(f"dialects: seed {arguments.seed}")
    return check(arguments.bdh, draw, arguments.draws)


if __name__ == "__main__":
    sys.exit(main())
