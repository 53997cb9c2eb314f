"""Training checkpoints: those of PyTorch read here bit for bit, and ours gone on from in PyTorch with the same bits.

    torch_checkpoint_parity.py check --tests build/bdh_tests --bdh build/bdh    runs drawn anew, saved as training scripts save them
    torch_checkpoint_parity.py write                                            writes tests/data/torch_checkpoints anew
"""
import argparse
import collections
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import bdh_torch

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "torch_checkpoints"
BEFORE, AFTER = 6, 50  # steps before a checkpoint and after it
TOLERANCE = 1e-3       # of a loss, in nats


class Model(torch.nn.Module):
    """The reference's parameters, in its order."""

    def __init__(self, config, seed):
        super().__init__()
        self.config = config
        state = bdh_torch.random_state(config, torch.Generator().manual_seed(seed))
        for name in ("decoder", "encoder", "encoder_v"):
            if name in state:
                setattr(self, name, torch.nn.Parameter(state[name]))
            else:
                layers = [state[f"{name}.{i}"] for i in range(config["n_layer"])]
                setattr(self, name, torch.nn.ParameterList(torch.nn.Parameter(layer) for layer in layers))
        self.lm_head = torch.nn.Parameter(state["lm_head"])
        self.attn = torch.nn.Module()
        self.attn.register_buffer("freqs", state["attn.freqs"])
        self.embed = torch.nn.Embedding.from_pretrained(state["embed.weight"], freeze=False)

    def forward(self, tokens):
        state = {**dict(self.named_parameters()), "attn.freqs": self.attn.freqs}
        logits = torch.stack([bdh_torch.logits.__wrapped__(state, self.config, row[:-1]) for row in tokens])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def groups_of(model, kind):
    named = list(model.named_parameters())
    if kind == "all":
        return model.parameters()
    if kind == "named":
        return named
    plain = [parameter for name, parameter in named if name != "embed.weight"]
    return [{"params": plain, "weight_decay": 0.1}, {"params": [model.embed.weight], "weight_decay": 0.0}]


def adamw(model, kind="all"):
    return torch.optim.AdamW(groups_of(model, kind), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1)


def train(model, optimizer, batches):
    losses = []
    for batch in batches:
        loss = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def prefixed(state):
    return collections.OrderedDict(("_orig_mod." + name, tensor) for name, tensor in state.items())


def numbered(state):
    """As PyTorch before 1.12 counted steps."""
    return {**state, "state": {key: {**entry, "step": int(entry["step"])} for key, entry in state["state"].items()}}


def samples():
    """Name -> (parameter groups, model and AdamW -> what is saved, options of torch.save)."""
    plain = lambda m, o: {"model": m.state_dict(), "optimizer": o.state_dict(), "step": BEFORE, "config": m.config}
    return {
        "plain": ("all", plain, {}),
        "groups": ("groups", plain, {}),
        "named": ("named", plain, {}),
        "legacy": ("all", plain, {"_use_new_zipfile_serialization": False}),
        "compiled": ("all", lambda m, o: {"model": prefixed(m.state_dict()), "optimizer": o.state_dict(), "model_args": m.config,
                                          "iter_num": BEFORE, "best_val_loss": torch.tensor(2.5), "config": m.config}, {}),
        "long_names": ("all", lambda m, o: {"epoch": 2, "model_state_dict": m.state_dict(), "config": m.config, "loss": 2.5,
                                            "optimizer_state_dict": numbered(o.state_dict()), "rng": torch.get_rng_state()}, {}),
        "lightning": ("all", lambda m, o: {"epoch": 1, "global_step": BEFORE, "state_dict": m.state_dict(), "config": m.config,
                                           "optimizer_states": [o.state_dict()], "lr_schedulers": []}, {}),
        "scaled": ("groups", lambda m, o: {**plain(m, o), "scaler": {"scale": 1024.0, "growth_factor": 2.0, "backoff_factor": 0.5,
                                                                     "growth_interval": 2000, "_growth_tracker": 7}}, {}),
    }


def drawn_config(draw, tie_layers):
    heads = draw.choice([1, 2, 3])
    return bdh_torch.config_of(tie_layers, n_layer=draw.choice([1, 2, 3]) + (not tie_layers), n_embd=draw.choice([6, 8, 12]) * heads,
                               n_head=heads, mlp_internal_dim_multiplier=2 * heads, vocab_size=draw.choice([17, 32]), dropout=0.0)


def drawn_batches(config, steps, seed):
    return torch.randint(config["vocab_size"], (steps, 2, 13), generator=torch.Generator().manual_seed(seed))


def begun(config, kind, seed, steps=BEFORE):
    model = Model(config, seed)
    optimizer = adamw(model, kind)
    train(model, optimizer, drawn_batches(config, steps, seed))
    return model, optimizer


def contents(model, optimizer):
    """What bdh should make of it, under its names."""
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment].clone()
    return tensors


def assert_same(found, expected, where):
    assert sorted(found) == sorted(expected), f"{where}: tensors {sorted(found)}"
    for name, tensor in expected.items():
        same = found[name].shape == tensor.shape and torch.equal(found[name].view(torch.int32), tensor.view(torch.int32))
        assert same, f"{where}: {name}: other bits"


def run_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["bdh.run"])


def check_back(path, model, optimizer, kind, seed):
    """Ours in PyTorch: the same state, and the same bits after more steps."""
    saved = torch.load(path, weights_only=True)
    again = Model(model.config, seed + 1)
    again.load_state_dict(saved["model"])
    other = adamw(again, "groups" if kind == "groups" else "all")
    other.load_state_dict(saved["optimizer"])
    for old, new in zip(optimizer.param_groups, other.param_groups):
        assert all(old[key] == new[key] for key in ("lr", "betas", "eps", "weight_decay")), f"{path.name}: {new}"
    assert_same(contents(again, other), contents(model, optimizer), path.name)
    batches = drawn_batches(model.config, 10, seed + 2)
    assert train(model, optimizer, batches) == train(again, other, batches), f"{path.name}: other losses"
    assert_same(contents(again, other), contents(model, optimizer), f"{path.name}, ten steps on")


def check_read(tests, draw):
    with tempfile.TemporaryDirectory() as name:
        directory, begun_runs = pathlib.Path(name), {}
        for sample, (kind, value, options) in samples().items():
            for tie_layers in (True, False):
                if kind == "groups" and not tie_layers:
                    continue
                config, seed = drawn_config(draw, tie_layers), draw.randrange(1 << 31)
                model, optimizer = begun(config, kind, seed)
                stem = sample if tie_layers else f"{sample}_untied"
                torch.save(value(model, optimizer), directory / f"{stem}.pt", **options)
                begun_runs[stem] = (model, optimizer, kind, seed)
        command = [tests, "-tc=parity: training checkpoints of PyTorch"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "BDH_PARITY_CHECKPOINTS": name})
        for stem, (model, optimizer, kind, seed) in begun_runs.items():
            found = directory / f"{stem}.safetensors"
            assert found.exists(), f"{stem}: {(directory / f'{stem}.error').read_text()}"
            assert_same(load_file(found), contents(model, optimizer), stem)
            run = run_of(found)
            assert run["step"] == run["optimizer_step"] == BEFORE, f"{stem}: {run}"
            assert run["loss_scale"] == (1024 if stem == "scaled" else 1), f"{stem}: {run}"
            check_back(directory / f"{stem}.back.pt", model, optimizer, kind, seed)
    return len(begun_runs)


def bdh(command, *words):
    result = subprocess.run([command, *map(str, words)], capture_output=True, text=True)
    assert result.returncode == 0, f"bdh {words[0]}: {result.stderr}"
    return result


def check_going_on(command, draw):
    """A run begun in PyTorch goes on here, and from there in PyTorch again, beside PyTorch going on all the time."""
    config, seed = drawn_config(draw, True), draw.randrange(1 << 31)
    batches = drawn_batches(config, BEFORE + 2 * AFTER, seed)
    model = Model(config, seed)
    optimizer = adamw(model)
    train(model, optimizer, batches[:BEFORE])
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "config": config}, directory / "begun.pt")
        save_file({"tokens": batches.int()}, directory / "batches.safetensors")
        bdh(command, "train", "--batches", directory / "batches.safetensors", "--out", directory / "run", "--steps", BEFORE + AFTER,
            "--resume", directory / "begun.pt")
        lines = [json.loads(line) for line in (directory / "run" / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(BEFORE + 1, BEFORE + AFTER + 1)), "bdh took other steps"
        expected = train(model, optimizer, batches[BEFORE:BEFORE + AFTER])
        here = max(abs(line["loss"] - loss) for line, loss in zip(lines, expected))
        bdh(command, "checkpoints", directory / "run", "--to-torch", directory / "back.pt")
        saved = torch.load(directory / "back.pt", weights_only=True)
        again = Model(config, seed + 1)
        again.load_state_dict(saved["model"])
        other = adamw(again)
        other.load_state_dict(saved["optimizer"])
        rest = batches[BEFORE + AFTER:]
        back = max(abs(a - b) for a, b in zip(train(model, optimizer, rest), train(again, other, rest)))
    assert here <= TOLERANCE and back <= TOLERANCE, f"losses differ by {here:.1e} here, {back:.1e} back in PyTorch"
    return here, back


def write_golden():
    DATA.mkdir(parents=True, exist_ok=True)
    config = bdh_torch.config_of(n_layer=2, n_embd=8, n_head=2, mlp_internal_dim_multiplier=4, vocab_size=32, dropout=0.0)
    for sample in ("plain", "groups", "long_names", "lightning"):
        kind, value, options = samples()[sample]
        model, optimizer = begun(config, kind, 1)
        torch.save(value(model, optimizer), DATA / f"{sample}.pt", **options)
        save_file(contents(model, optimizer), DATA / f"{sample}.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "write"])
    parser.add_argument("--tests", help="the bdh_tests program")
    parser.add_argument("--bdh", help="the bdh program")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    arguments = parser.parse_args()
    if arguments.action == "write":
        write_golden()
        return
    if not arguments.tests or not arguments.bdh:
        parser.error("check needs --tests build/bdh_tests --bdh build/bdh")
    print(f"torch_checkpoint: seed {arguments.seed}")
    draw = random.Random(arguments.seed)
    count = check_read(arguments.tests, draw)
    print(f"torch_checkpoint: {count} checkpoints of PyTorch read bit for bit, and gone on from in PyTorch with the same bits")
    here, back = check_going_on(arguments.bdh, draw)
    print(f"torch_checkpoint: {AFTER} losses here differ by at most {here:.1e}, {AFTER} more back in PyTorch by {back:.1e}")


if __name__ == "__main__":
    sys.exit(main())
