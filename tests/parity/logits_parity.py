"""Compares the bdh command with PyTorch: logits in every form, dtype and instruction set, greedy text, and the loss of a text.

    logits_parity.py generate DIRECTORY                          writes the models and logits of tests/data/logits
    logits_parity.py check --bdh build/bdh --demo DIRECTORY      checks models and tokens drawn anew, and the demo model
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import bdh_torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
TOLERANCE = 1e-5  # of the largest logit; a dtype is what weights are rounded to, sums are float32's
OWN_ERRORS = 10  # or so many times what PyTorch is off itself, for models that magnify rounding
EVAL_TOLERANCE = 5e-4  # nats a token

# name: layers, width, heads, multiplier, vocabulary, tokens, std of the weights; UNTIED ones have weights for each layer
GOLDEN = {
    "one_head_long": (1, 20, 1, 8, 17, 300, 0.02),
    "three_heads": (6, 12, 3, 8, 300, 40, 0.02),
    "five_heads_uneven": (2, 7, 5, 6, 256, 33, 0.02),
    "two_neurons": (3, 7, 3, 1, 17, 64, 0.3),
    "four_neurons_long": (6, 20, 5, 1, 17, 300, 0.02),
    "many_neurons": (2, 6, 1, 700, 17, 20, 0.02),
    "one_token": (6, 16, 2, 4, 300, 1, 0.02),
    "large_weights": (4, 32, 4, 16, 100, 70, 0.2),
    "untied_layers": (3, 20, 2, 6, 40, 80, 0.05),
    "untied_layers_uneven": (2, 7, 5, 6, 17, 33, 0.2),
    "negative_frequencies": (2, 12, 2, 8, 40, 60, 0.1),
    "unequal_frequencies": (2, 12, 3, 8, 40, 60, 0.1),
}
UNTIED = ("untied_layers", "untied_layers_uneven")
DAMPED = ("four_neurons_long", "untied_layers", "negative_frequencies", "unequal_frequencies")  # logits with a horizon too
STARTS = (0, 100_000, 16_000_000, 2**40)


def make_model(layers, width, heads, multiplier, vocab, std, generator, tie_layers=True):
    config = bdh_torch.config_of(n_layer=layers, n_embd=width, dropout=0.0, n_head=heads,
                                 mlp_internal_dim_multiplier=multiplier, vocab_size=vocab, tie_layers=tie_layers)
    return config, bdh_torch.random_state(config, generator, std)


def with_frequencies(state, kind, generator):
    """As trained or other code's files hold them: of either sign, and not equal within a pair."""
    freqs = state["attn.freqs"]
    drawn = torch.rand(freqs.shape, generator=generator)
    if kind == "negative":
        drawn = drawn[..., 0::2].repeat_interleave(2, dim=-1)
    return {**state, "attn.freqs": (drawn * 2 - 1) * 0.5}


def write_model(directory, config, state):
    directory.mkdir(parents=True, exist_ok=True)
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def relative_difference(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def moved(tensor, dtype, generator):
    """float64 numbers, each by about half the last bit that it has in dtype."""
    return tensor * (1 + torch.finfo(dtype).eps / 2 * torch.randn(tensor.shape, dtype=torch.float64, generator=generator))


def own_error(state, config, tokens, dtype=torch.float32, horizon=None, start=0):
    """How far PyTorch's logits, computed in dtype, are from the exact ones of the same rounded weights, or those from themselves when
    every weight is moved by about half its last bit."""
    rounded = bdh_torch.cast(state, dtype)
    exact_state, generator = bdh_torch.cast(rounded, torch.float64), torch.Generator().manual_seed(1)
    exact = bdh_torch.logits(exact_state, config, tokens, horizon, start)
    errors = [relative_difference(bdh_torch.logits(rounded, config, tokens, horizon, start).double(), exact)]
    for _ in range(3):
        other = {name: tensor if name == "attn.freqs" else moved(tensor, dtype, generator) for name, tensor in exact_state.items()}
        errors.append(relative_difference(bdh_torch.logits(other, config, tokens, horizon, start), exact))
    return max(errors)


def too_far(difference, *forward, tolerance=TOLERANCE, **options):
    """Whether it is more than rounding; what forward takes, and options, are own_error's."""
    return not difference <= tolerance and not difference <= OWN_ERRORS * own_error(*forward, **options)


def horizons(heads):
    """One for all heads, and one for each."""
    return {"all": [9.5] * heads, "by_head": [float("inf") if head == 1 else 3.0 + 7 * head for head in range(heads)]}


def generate_damped(directory, config, state, tokens):
    golden = {}
    for name, horizon in horizons(config["n_head"]).items():
        golden[f"horizon_{name}"] = torch.tensor(horizon)
        golden[f"logits_{name}"] = bdh_torch.logits(state, config, tokens, horizon)
    save_file(golden, directory / "horizon.safetensors")


def generate(directory):
    for seed, (name, (*sizes, count, std)) in enumerate(GOLDEN.items()):
        generator = torch.Generator().manual_seed(seed)
        config, state = make_model(*sizes, std, generator, tie_layers=name not in UNTIED)
        if name.endswith("_frequencies"):
            state = with_frequencies(state, name.split("_")[0], generator)
        tokens = torch.randint(config["vocab_size"], (count,), generator=generator)
        golden = {"tokens": tokens}
        for dtype_name, dtype in DTYPES.items():
            golden[f"logits_{dtype_name}"] = bdh_torch.logits(bdh_torch.rounded(state, dtype), config, tokens)
        write_model(directory / name, config, state)
        save_file(golden, directory / name / "golden.safetensors")
        if name in DAMPED:
            generate_damped(directory / name, config, bdh_torch.rounded(state, torch.float32), tokens)
        exact = bdh_torch.logits(bdh_torch.cast(state, torch.float64), config, tokens)
        print(f"{name}: PyTorch's own float32 error {relative_difference(golden['logits_f32'].double(), exact):.1e}")


class Command:
    """The bdh command, and a folder for what it writes."""

    def __init__(self, path, folder):
        self.path = path.resolve()
        self.folder = folder

    def run(self, *arguments, isa=None):
        environment = dict(os.environ, **({"BDH_ISA": isa} if isa else {}))
        words = [str(word) for word in (self.path, *arguments)]
        done = subprocess.run(words, capture_output=True, env=environment, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            sys.exit(f"failed: {' '.join(words)}\n{done.stderr.decode()}")
        return done.stdout

    def runs_on(self, isa):
        words = [str(self.path), "logits", str(self.folder / "probe"), "--tokens", "1", "--out", str(self.folder / "probe.safetensors")]
        return subprocess.run(words, capture_output=True, env=dict(os.environ, BDH_ISA=isa)).returncode == 0

    def logits(self, model, tokens, dtype, form, threads, isa):
        out = self.folder / "logits.safetensors"
        self.run("logits", model, "--tokens", ",".join(map(str, tokens)), "--out", out,
                 "--dtype", dtype, "--threads", threads, *form, isa=isa)
        return load_file(out)["logits"]


def random_model(draw, generator, tie_layers=True):
    heads = draw.choice((1, 2, 3, 4, 5, 7))
    while True:
        width, multiplier = draw.randint(4, 80), draw.randint(1, 64)
        if multiplier * width // heads >= 2 and multiplier * width // heads % 2 == 0:
            break
    return make_model(draw.randint(1, 6), width, heads, multiplier, draw.choice((2, 17, 256, 300, 1000)),
                      draw.choice((0.02, 0.1)), generator, tie_layers)


def check_logits(command, draw, generator, models):
    isas = [isa for isa in ("avx512vnni", "avx512", "avx2", "baseline", "neondotprod", "neon") if command.runs_on(isa)]
    print("instruction sets:", *isas)
    worst, bad, runs = {}, [], 0
    for number in range(models):
        config, state = random_model(draw, generator, tie_layers=number % 2 == 0)
        if number % 3 == 2:
            state = with_frequencies(state, draw.choice(("negative", "unequal")), generator)
        tokens = [draw.randrange(config["vocab_size"]) for _ in range(draw.randint(2, 200))]
        model = command.folder / f"model{number}"
        write_model(model, config, state)
        forms = {"parallel": ("--form", "parallel"), "recurrent": ("--form", "recurrent"),
                 "chunked": ("--form", "chunked", "--chunk", draw.choice((1, 3, 7, 33, 64)))}
        for dtype_name, dtype in DTYPES.items():
            rounded = bdh_torch.rounded(state, dtype)
            want = bdh_torch.logits(rounded, config, tokens)
            for isa in isas:
                for form_name, form in forms.items():
                    one, two = (command.logits(model, tokens, dtype_name, form, threads, isa) for threads in (1, 2))
                    runs += 2
                    difference = relative_difference(one, want)
                    where = f"{dtype_name} {' '.join(map(str, form))} {isa} {config} T {len(tokens)}"
                    key = (dtype_name, form_name)
                    worst[key] = max(worst.get(key, 0.0), difference)
                    if too_far(difference, rounded, config, tokens):
                        bad.append(f"differs from PyTorch by {difference:.1e}: {where}")
                    if not torch.equal(one, two):
                        bad.append(f"one and two threads differ: {where}")
    print(f"logits: {models} models, {runs} runs; largest difference / largest logit:")
    for (dtype_name, form_name), difference in worst.items():
        print(f"  {dtype_name:5} {form_name:10} {difference:.1e}  (allowed {TOLERANCE:.0e}, or {OWN_ERRORS} times PyTorch's own)")
    return bad


def check_horizons(command, draw, generator, models):
    """Logits with a horizon, in every form and wherever a text starts."""
    worst, bad, runs = 0.0, [], 0
    for number in range(models):
        config, state = random_model(draw, generator, tie_layers=number % 2 == 0)
        kind = ("formula", "negative", "unequal")[number % 3]
        if kind != "formula":
            state = with_frequencies(state, kind, generator)
        tokens = [draw.randrange(config["vocab_size"]) for _ in range(40 if kind == "unequal" else draw.randint(100, 400))]
        model = command.folder / f"damped{number}"
        write_model(model, config, state)
        state = bdh_torch.rounded(state, torch.float32)
        for horizon in horizons(config["n_head"]).values():
            want = bdh_torch.logits(state, config, tokens, horizon)
            for start in STARTS:
                if kind == "unequal":  # then it matters where a text starts
                    want = bdh_torch.logits(state, config, tokens, horizon, start)
                for form in (("parallel",), ("recurrent",), ("chunked", "--chunk", draw.choice((3, 7, 33, 64)))):
                    options = ("--form", *form, "--horizon", ",".join(map(str, horizon)), "--start", start)
                    difference = relative_difference(command.logits(model, tokens, "f32", options, 2, None), want)
                    worst, runs = max(worst, difference), runs + 1
                    if too_far(difference, state, config, tokens, horizon=horizon, start=start if kind == "unequal" else 0):
                        bad.append(f"differs from PyTorch by {difference:.1e}: {' '.join(map(str, options))} {config} T {len(tokens)}")
    print(f"horizons: {models} models, {runs} runs; largest difference / largest logit {worst:.1e}")
    return bad


def check_greedy(command, demo, config, state):
    prompt = "ROMEO:"
    bad = []
    for horizon in (None, 48):
        told = json.loads(command.run("generate", demo, "--prompt", prompt, "--greedy", "--max-new-tokens", 200,
                                      "--dtype", "f32", "--horizon", horizon or "none", "--json"))
        each = horizon and [horizon] * config["n_head"]
        want = bdh_torch.greedy(bdh_torch.rounded(state, torch.float32), config, list(prompt.encode()), 200, each)
        same = sum(1 for got, expected in zip(told["tokens"], want) if got == expected)
        print(f"greedy, horizon {horizon}: {same} of {len(want)} tokens as PyTorch's")
        if told["tokens"] != want:
            bad.append(f"greedy text with horizon {horizon} differs from PyTorch's")
    return bad


def check_eval(command, demo, config, state, text, limit):
    tokens = list(text.read_bytes()[:limit])
    want = bdh_torch.evaluate(bdh_torch.rounded(state, torch.float32), config, tokens)
    bad = []
    for threads in (1, 2):
        told = json.loads(command.run("eval", demo, "--text", text, "--block", 256, "--limit", limit, "--dtype", "f32",
                                      "--threads", threads, "--json"))
        difference = abs(told["nats_per_token"] - want)
        print(f"eval: {told['nats_per_token']:.6f} nats a token, PyTorch {want:.6f}, {threads} threads")
        if not difference <= EVAL_TOLERANCE:
            bad.append(f"eval differs from PyTorch by {difference:.1e} nats a token")
    return bad


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed)
    config = json.loads((arguments.demo / "config.json").read_text())
    state = load_file(arguments.demo / "model.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        command = Command(arguments.bdh, pathlib.Path(folder))
        write_model(command.folder / "probe", *make_model(1, 4, 1, 1, 4, 0.02, generator))
        bad = check_logits(command, draw, generator, arguments.models)
        bad += check_horizons(command, draw, generator, arguments.models)
        bad += check_greedy(command, arguments.demo, config, state)
        bad += check_eval(command, arguments.demo, config, state, arguments.text, arguments.limit)
    for line in bad[:20]:
        print("FAILED:", line)
    print(f"logits parity: {'ok' if not bad else f'{len(bad)} failures'}")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    generating = modes.add_parser("generate")
    generating.add_argument("directory", type=pathlib.Path)
    checking = modes.add_parser("check")
    checking.add_argument("--bdh", type=pathlib.Path, required=True)
    checking.add_argument("--demo", type=pathlib.Path, required=True)
    checking.add_argument("--text", type=pathlib.Path, default=pathlib.Path(__file__), help="text to evaluate")
    checking.add_argument("--limit", type=int, default=20000, help="bytes of it")
    checking.add_argument("--models", type=int, default=4)
    checking.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    if arguments.mode == "generate":
        return generate(arguments.directory)
    return check(arguments)


if __name__ == "__main__":
    sys.exit(main())
