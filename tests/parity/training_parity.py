"""Compares training with PyTorch: gradients of every parameter, losses of a run, AdamW's updates.

    training_parity.py check --bdh build/bdh        models and tokens drawn anew
    training_parity.py write tests/data/training    golden gradients and updates for the unit tests

A gradient jumps where rounding takes a neuron across zero. So PyTorch's own distance from float64 is measured beside ours, in float32
and under autocast, and a difference is a failure where it is more than TIMES as large and more than what is allowed. In float32 the
jump that float64 itself makes, when weights move by less than rounding does, counts as PyTorch's.
"""
import argparse
import functools
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import bdh_torch

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}
FLOAT32, MIXED, TIMES = 1e-4, 2e-2, 3  # norm of the difference over norm of the gradient
NEARBY = 12  # models that rounding cannot tell from one
LOSS = 1e-3  # nats, of every step of a run
RATE = 1e-4  # at which 200 steps magnify rounding little
LENGTHS = (1, 2, 3, 17, 100, 333, 700, 2000)
RUN = {"n_layer": 4, "n_embd": 64, "n_head": 4, "mlp_internal_dim_multiplier": 16, "vocab_size": 96}


def write_model(directory, config, state):
    directory.mkdir(parents=True, exist_ok=True)
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def gradients(state, config, tokens, targets, horizon=None, dtype=torch.float32, autocast=None):
    """The mean loss and each parameter's gradient, by name."""
    trained = bdh_torch.parameters(state, dtype)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        loss = bdh_torch.loss(trained, config, tokens, targets, horizon)
    loss.backward()
    return {"loss": loss.detach(), **{name: tensor.grad for name, tensor in trained.items() if tensor.requires_grad}}


def errors(got, want):
    """Of each gradient: norm of the difference over norm."""
    if set(got) != set(want):
        sys.exit(f"failed: tensors {sorted(got)} where {sorted(want)} are wanted")
    out = {}
    for name, tensor in want.items():
        difference = (got[name].double() - tensor.double()).norm().item()
        out[name] = 0.0 if difference == 0 else difference / tensor.double().norm().item()
    return out


def worst(got, want):
    return max(errors(got, want).values())


class Command:
    """The bdh command, and a folder for what it writes."""

    def __init__(self, path, folder):
        self.path, self.folder = path.resolve(), folder

    def run(self, *arguments):
        words = [str(word) for word in (self.path, *arguments)]
        done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            sys.exit(f"failed: {' '.join(words)[:500]}\n{done.stderr.decode()}")

    def gradients(self, model, tokens, targets, *options):
        out = self.folder / "gradients.safetensors"
        numbers = (",".join(str(token) for token in row.tolist()) for row in (tokens, targets))
        self.run("gradients", model, "--tokens", next(numbers), f"--targets={next(numbers)}", "--out", out, *options)
        return load_file(out)


def random_model(draw, generator, number):
    heads = draw.choice((1, 2, 3, 4, 5, 7))
    while True:
        width, multiplier = draw.randint(4, 60), draw.randint(1, 24)
        if multiplier * width // heads >= 2 and multiplier * width // heads % 2 == 0:
            break
    config = bdh_torch.config_of(n_layer=draw.randint(1, 4), n_embd=width, dropout=0.0, n_head=heads,
                                 mlp_internal_dim_multiplier=multiplier, vocab_size=draw.choice((17, 100, 256)),
                                 tie_layers=number % 2 == 0)
    return config, bdh_torch.random_state(config, generator, draw.choice((0.02, 0.1)))


def random_tokens(config, count, generator):
    """(T) tokens and their targets, of which some do not count."""
    tokens = torch.randint(config["vocab_size"], (count + 1,), generator=generator)
    targets = tokens[1:].clone()
    targets[5::11] = -1
    return tokens[:-1], targets


def moved_by_rounding(state, config, tokens, targets, horizon, exact):
    """How far gradients in float64 move where weights move by less than float32 rounds sums: by much where a neuron is at zero."""
    moved = 0.0
    for seed in range(NEARBY):
        noise = torch.Generator().manual_seed(seed)
        near = {name: tensor if name.endswith("freqs") else tensor.double() * (1 + 3e-7 * torch.randn(tensor.shape, generator=noise))
                for name, tensor in state.items()}
        moved = max(moved, worst(gradients(near, config, tokens, targets, horizon, torch.float64), exact))
    return moved


def check_float32(where, got, want, exact, worsts, moved):
    ours, theirs = worst(got, want), worst(want, exact)
    worsts["float32"] = max(worsts.get("float32", 0.0), ours)
    worsts["PyTorch's float32 against float64"] = max(worsts.get("PyTorch's float32 against float64", 0.0), theirs)
    if ours <= FLOAT32 or worst(got, exact) <= TIMES * max(theirs, moved()):
        return []
    return [f"differs from PyTorch by {ours:.1e} (PyTorch from float64 by {theirs:.1e}, which rounding moves by {moved():.1e}): {where}"]


def check_mixed(command, where, model, config, state, tokens, targets, horizon, exact, totals):
    """Each model adds to the totals; what one model has is chance."""
    for name, dtype in DTYPES.items():
        got = command.gradients(model, tokens, targets, "--dtype", name, *horizon_options(horizon))
        theirs = gradients(state, config, tokens, targets, horizon, autocast=dtype)
        total = totals.setdefault(name, {"ours": [], "autocast": []})
        ours = worst(got, exact)
        if not ours < 2:
            return [f"{name} is not near anything ({ours:.1e}): {where}"]
        total["ours"].append(ours)
        total["autocast"].append(worst(theirs, exact))
    return []


def horizon_options(horizon):
    return ("--horizon", ",".join(map(str, horizon))) if horizon else ()


def check_gradients(command, draw, generator, models):
    worsts, totals, bad, runs = {}, {}, [], 0
    for number in range(models):
        config, state = random_model(draw, generator, number)
        length = LENGTHS[number % len(LENGTHS)]
        tokens, targets = random_tokens(config, length, generator)
        heads = config["n_head"]
        horizon = [draw.choice((5.0, 64.0, float("inf"))) for _ in range(heads)] if number % 3 == 2 else None
        model = command.folder / f"model{number}"
        write_model(model, config, state)
        where = f"{config} T {length} horizon {horizon}"
        exact = gradients(state, config, tokens, targets, horizon, torch.float64)
        want = gradients(state, config, tokens, targets, horizon)
        moved = functools.cache(functools.partial(moved_by_rounding, state, config, tokens, targets, horizon, exact))
        chunk = draw.choice((1, 7, 64, 256)) if length <= 333 else draw.choice((64, 100, 256))
        for form in ((), ("--form", "parallel"), ("--form", "chunked", "--chunk", chunk)):
            one, two = (command.gradients(model, tokens, targets, *form, *horizon_options(horizon), "--threads", threads) for threads in (1, 2))
            runs += 2
            bad += check_float32(f"{' '.join(map(str, form))} {where}", one, want, exact, worsts, moved)
            if not all(torch.equal(one[name], two[name]) for name in one):
                bad.append(f"one and two threads differ: {where}")
        if length > 3:
            bad += check_mixed(command, where, model, config, state, tokens, targets, horizon, exact, totals)
    print(f"gradients: {models} models, {runs} runs; norm of the difference over norm, the worst parameter's:")
    for what, error in worsts.items():
        print(f"  {what} {error:.1e}")
    for name, total in totals.items():
        ours, theirs = (sorted(total[side])[len(total[side]) // 2] for side in ("ours", "autocast"))
        print(f"  {name} against float64: {ours:.1e}, PyTorch's autocast {theirs:.1e} (medians)")
        if not ours <= max(MIXED, TIMES * theirs):
            bad.append(f"{name} is {ours:.1e} from float64, autocast {theirs:.1e}")
    return bad


def check_differences(command, draw, generator):
    """The loss along the gradient, by differences, against the gradient's norm."""
    config = bdh_torch.config_of(n_layer=2, n_embd=24, dropout=0.0, n_head=3, mlp_internal_dim_multiplier=8, vocab_size=50)
    state = bdh_torch.random_state(config, generator, 0.1)
    tokens, targets = random_tokens(config, 60, generator)
    model = command.folder / "moved"
    write_model(model, config, state)
    gradient = command.gradients(model, tokens, targets)
    bad = []
    for name in (name for name in gradient if name != "loss"):
        norm = gradient[name].double().norm().item()
        losses = []
        for step in (1e-2, -1e-2):
            write_model(model, config, {**state, name: state[name] + step * gradient[name] / norm})
            losses.append(command.gradients(model, tokens, targets)["loss"].item())
        slope = (losses[0] - losses[1]) / 2e-2
        print(f"differences of the loss along {name}: {slope:.5f}, its gradient's norm {norm:.5f}")
        if not abs(slope - norm) <= 0.03 * norm:
            bad.append(f"the gradient of {name} has norm {norm:.5f}, the loss along it changes by {slope:.5f}")
    return bad


def train_in_pytorch(config, state, batches, rate, dtype=torch.float32):
    """The losses of the reference's training, before each update."""
    trained = bdh_torch.parameters(state, dtype)
    optimizer = torch.optim.AdamW([tensor for tensor in trained.values() if tensor.requires_grad], lr=rate, weight_decay=0.1)
    losses = []
    for rows in batches:
        loss = bdh_torch.loss(trained, config, rows[:, :-1], rows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def check_run(command, generator, text, steps):
    """Two hundred steps from the same weights on the same batches."""
    config = bdh_torch.config_of(dropout=0.0, **RUN)
    state = bdh_torch.random_state(config, generator)
    data = torch.tensor([byte % config["vocab_size"] for byte in text.read_bytes()])
    block, batch = 48, 4
    starts = torch.randint(len(data) - block - 1, (steps, batch), generator=generator)
    batches = torch.stack([torch.stack([data[at : at + block + 1] for at in row]) for row in starts.tolist()])
    model, run = command.folder / "start", command.folder / "run"
    write_model(model, config, state)
    save_file({"tokens": batches.int()}, command.folder / "batches.safetensors")
    command.run("train", "--batches", command.folder / "batches.safetensors", "--from", model, "--out", run, "--lr", RATE, "--threads", 2)
    got = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    want, exact = (train_in_pytorch(config, state, batches, RATE, dtype) for dtype in (torch.float32, torch.float64))
    difference, own = (max(abs(a - b) for a, b in zip(losses, want)) for losses in (got, exact))
    print(f"training: {len(want)} steps, {want[0]:.4f} to {want[-1]:.4f} nats; largest difference {difference:.1e}, "
          f"PyTorch's float32 from its float64 {own:.1e}")
    if len(got) != len(want) or not difference <= max(LOSS, 10 * own):
        return [f"losses of a run differ from PyTorch's by {difference:.1e} ({len(got)} steps of {len(want)})"]
    return []


GOLDEN = {  # layers, width, heads, multiplier, vocabulary, tokens; tied or not
    "three_heads": (2, 12, 3, 10, 29, 21, True),
    "untied": (3, 10, 2, 4, 17, 33, False),
    "horizon": (2, 8, 2, 4, 17, 40, True),
}


def write_gradients(directory):
    """Gradients in float64, kept as float32; `horizon` has one for each head."""
    for seed, (name, (layers, width, heads, multiplier, vocab, count, tied)) in enumerate(GOLDEN.items()):
        generator = torch.Generator().manual_seed(seed)
        config = bdh_torch.config_of(n_layer=layers, n_embd=width, dropout=0.0, n_head=heads,
                                     mlp_internal_dim_multiplier=multiplier, vocab_size=vocab, tie_layers=tied)
        state = bdh_torch.random_state(config, generator, 0.1)
        tokens, targets = random_tokens(config, count, generator)
        horizon = [3.5, 20.0] if name == "horizon" else None
        write_model(directory / name, config, state)
        golden = {f"gradient.{each}": tensor.float() for each, tensor in
                  gradients(state, config, tokens, targets, horizon, torch.float64).items()}
        golden |= {"tokens": tokens.int(), "targets": targets.int()}
        if horizon:
            golden["horizon"] = torch.tensor(horizon)
        save_file(golden, directory / name / "gradients.safetensors")


def write_updates(directory):
    """Four steps of torch.optim.AdamW at a falling rate; embed.weight has no weight decay."""
    generator = torch.Generator().manual_seed(1)
    config = bdh_torch.config_of(n_layer=2, n_embd=5, n_head=2, mlp_internal_dim_multiplier=8, vocab_size=11)
    state = bdh_torch.random_state(config, generator, 0.3)
    del state["attn.freqs"]
    parameters = {name: torch.nn.Parameter(tensor.clone()) for name, tensor in state.items()}
    groups = [{"params": [p for name, p in parameters.items() if name != "embed.weight"], "weight_decay": 0.1},
              {"params": [parameters["embed.weight"]], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    golden = {f"before.{name}": tensor for name, tensor in state.items()}
    for step in range(1, 5):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 / step
        for name, p in parameters.items():
            p.grad = torch.randn(p.shape, generator=generator) * 10.0 ** torch.randint(-6, 2, p.shape, generator=generator)
            golden[f"gradient.{step}.{name}"] = p.grad.clone()
        optimizer.step()
        for name, p in parameters.items():
            golden[f"after.{step}.{name}"] = p.detach().clone()
            golden[f"exp_avg.{step}.{name}"] = optimizer.state[p]["exp_avg"].clone()
            golden[f"exp_avg_sq.{step}.{name}"] = optimizer.state[p]["exp_avg_sq"].clone()
    save_file(golden, directory / "adamw.safetensors")


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        command = Command(arguments.bdh, pathlib.Path(folder))
        bad = check_gradients(command, draw, generator, arguments.models)
        bad += check_differences(command, draw, generator)
        bad += check_run(command, generator, arguments.text, arguments.steps)
    for line in bad[:20]:
        print("FAILED:", line)
    print(f"training parity: {'ok' if not bad else f'{len(bad)} failures'}")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    writing = modes.add_parser("write")
    writing.add_argument("directory", type=pathlib.Path)
    checking = modes.add_parser("check")
    checking.add_argument("--bdh", type=pathlib.Path, required=True)
    checking.add_argument("--text", type=pathlib.Path, default=pathlib.Path(__file__), help="bytes to train on")
    checking.add_argument("--steps", type=int, default=200)
    checking.add_argument("--models", type=int, default=12)
    checking.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    if arguments.mode == "check":
        return check(arguments)
    write_gradients(arguments.directory)
    write_updates(arguments.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
