"""Compares `bdh train --lora` with torch.optim.AdamW on a model that peft has wrapped: losses, and the adapter in peft.

    lora_training_parity.py check --bdh build/bdh       models, adapters and tokens drawn anew
    lora_training_parity.py write --bdh build/bdh       golden losses for the unit tests: tests/data/lora_training

A loss jumps where rounding takes a neuron across zero, and steps magnify it. So a difference is a failure where it is more than allowed and
more than TIMES what PyTorch's own losses move by when its weights move by less than rounding does.
"""
import argparse
import copy
import json
import pathlib
import random
import sys
import tempfile

from huggingface_parity import loaded  # first: it sets what transformers reads when imported

import peft
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers.utils import logging

from checks import Checks
from adapter_parity import DATA as ADAPTERS, agree, base_model, logits, logits_of, save, targets_of
from logits_parity import Command, relative_difference

DATA = pathlib.Path(__file__).parent.parent / "data" / "lora_training"
STEPS, SEQUENCES, BLOCK = 100, 3, 24
LOSS = 1e-3  # nats, of every step
RATE, DECAY, EPSILON = 1e-3, 0.05, 1e-4  # at which 100 steps magnify rounding little
TIMES, NEARBY = 3, 8  # models that rounding cannot tell from one
MERGED = 5e-7  # of the largest weight


def batches(steps, sequences, block, vocabulary, generator):
    """Tokens in which there is something to learn."""
    first = torch.randint(vocabulary, (steps, sequences, 1), generator=generator)
    noise = torch.randint(2, (steps, sequences, block + 1), generator=generator)
    return (first + 3 * torch.arange(block + 1) + noise) % vocabulary


def trained(wrapped, tokens):
    """The loss of every step, before its update."""
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=RATE, weight_decay=DECAY, eps=EPSILON)
    losses = []
    for batch in tokens:
        result = wrapped(batch[:, :-1]).logits.float()
        loss = functional.cross_entropy(result.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def difference(got, want):
    return max(abs(a - b) for a, b in zip(got, want)) if len(got) == len(want) else float("inf")


def moved_by_rounding(wrapped, tokens, want):
    """How far PyTorch's losses move where weights move by less than float32 rounds sums."""
    moved = 0.0
    for seed in range(NEARBY):
        noise, near = torch.Generator().manual_seed(seed), copy.deepcopy(wrapped)
        with torch.no_grad():
            for parameter in near.parameters():
                parameter.mul_(1 + 3e-7 * torch.randn(parameter.shape, generator=noise))
        moved = max(moved, difference(trained(near, tokens), want))
    return moved


def train(command, model, start, options, tokens, out):
    """The same by bdh."""
    save_file({"tokens": tokens.to(torch.int32)}, command.folder / "tokens.safetensors")
    targets = ",".join(target.removesuffix(".weight") for target in options["target_parameters"])
    command.run("train", "--from", model, "--lora", "--adapter", start, "--lora-rank", options["r"], "--lora-alpha", options["lora_alpha"],
                "--lora-targets", targets, "--lora-rslora", str(options["use_rslora"]).lower(), "--batches",
                command.folder / "tokens.safetensors", "--lr", RATE, "--weight-decay", DECAY, "--epsilon", EPSILON, "--out", out, "--huggingface",
                "--device", "cpu")
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def wrap(model, options):
    return peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=[], **options))


def check_one(checks, command, folder, where, draw, generator, worsts, **sizes):
    plain, made, config = base_model(command, folder, where, generator, **sizes)
    model, _ = loaded(made, dtype=torch.float32)
    parameters = targets_of(model, draw) + (["embed.weight"] if draw.random() < 0.5 else [])
    options = dict(r=draw.choice((1, 2, 4, 8)), lora_alpha=draw.choice((2, 8, 16)), use_rslora=draw.random() < 0.5,
                   target_parameters=parameters)
    where = f"{where}, {options}"
    wrapped = wrap(model, options)
    start, out = folder / "start", folder / f"run{len(worsts)}"
    save(wrapped, start)
    tokens = batches(STEPS, SEQUENCES, BLOCK, config["vocab_size"], generator)
    got, want = train(command, plain, start, options, tokens, out), trained(copy.deepcopy(wrapped), tokens)
    off = difference(got, want)
    worsts.append(off)
    checks.that(off <= LOSS or off <= TIMES * moved_by_rounding(wrapped, tokens, want), f"{where}: losses are off by {off}")
    check_adapter(checks, command, where, plain, made, out, [draw.randrange(config["vocab_size"]) for _ in range(30)])


def check_adapter(checks, command, where, plain, made, out, tokens):
    """What bdh left, in peft and in transformers."""
    base, _ = loaded(made, dtype=torch.float32)
    before = logits_of(base, tokens)
    wrapped = peft.PeftModel.from_pretrained(base, out / "adapter_checkpoint").eval()
    want = logits_of(wrapped, tokens)
    checks.that(relative_difference(before, want) > 1e-3, f"{where}: the adapter does something")
    got = logits(command, plain, tokens, out / "adapter_checkpoint")
    checks.that(agree(got, want, wrapped, tokens), f"{where}: applied, {relative_difference(got, want)}")
    got = logits(command, out / "final_merged", tokens)
    checks.that(agree(got, want, wrapped, tokens), f"{where}: merged, {relative_difference(got, want)}")
    again, unmatched = loaded(out / "final_merged", dtype=torch.float32)
    checks.that(not unmatched and agree(logits_of(again, tokens), want, again, tokens), f"{where}: merged, in transformers")
    ours, theirs = load_file(out / "final_merged" / "model.safetensors"), wrapped.merge_and_unload().state_dict()
    worst = max(relative_difference(ours[name], value) for name, value in theirs.items())
    checks.that(worst <= MERGED, f"{where}: merged weights are off by {worst}")


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator, checks, worsts = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed), Checks(), []
    torch.manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Command(arguments.bdh, folder)
        for index in range(arguments.models):
            heads = draw.choice((1, 2, 3))
            check_one(checks, command, folder, f"model{index}", draw, generator, worsts, n_layer=draw.randint(1, 3), n_head=heads,
                      n_embd=draw.choice((12, 16, 24)), mlp_internal_dim_multiplier=heads * draw.choice((2, 4)),
                      vocab_size=draw.choice((17, 60)), tie_layers=index % 2 == 0)
    print(f"lora training parity: {checks.done} checks, losses of {STEPS} steps off by {sorted(worsts)[len(worsts) // 2]:.1e} nats "
          f"(median of models) and at most {max(worsts):.1e}, "
          f"{f'{len(checks.failed)} failures' if checks.failed else 'ok'}")
    return 1 if checks.failed else 0


def write(arguments):
    generator = torch.Generator().manual_seed(8)
    cases = []
    with tempfile.TemporaryDirectory() as name:
        command = Command(arguments.bdh, pathlib.Path(name))
        for base, start in (("tied", "matrices"), ("tied", "rslora"), ("untied", "layers")):
            made = pathlib.Path(name) / base
            command.run("convert", ADAPTERS / base, made, "--huggingface", "--overwrite")
            model, _ = loaded(made, dtype=torch.float32)
            wrapped = peft.PeftModel.from_pretrained(model, ADAPTERS / start, is_trainable=True)
            tokens = batches(20, 2, 8, 19, generator)
            cases.append({"model": base, "adapter": start, "lr": RATE, "weight_decay": DECAY, "epsilon": EPSILON, "tokens": tokens.flatten().tolist(),
                          "losses": trained(wrapped, tokens)})
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / "expected.json").write_text(json.dumps(cases) + "\n")
    print(f"wrote {DATA}")
    return 0


def main():
    logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    for mode in ("check", "write"):
        options = modes.add_parser(mode)
        options.add_argument("--bdh", type=pathlib.Path, required=True)
        options.add_argument("--models", type=int, default=4)
        options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    return write(arguments) if arguments.mode == "write" else check(arguments)


if __name__ == "__main__":
    sys.exit(main())
