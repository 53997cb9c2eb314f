"""Compares adapters with the peft package: those that it saves, applied and merged by bdh, against its own logits.

    adapter_parity.py check --bdh build/bdh
    adapter_parity.py write --bdh build/bdh      rewrites tests/data/adapters
"""
import argparse
import copy
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from huggingface_parity import loaded  # first: it sets what transformers reads when imported

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

import bdh_torch
from checks import Checks
from logits_parity import Command, OWN_ERRORS, TOLERANCE, moved, relative_difference, write_model

DATA = pathlib.Path(__file__).parent.parent / "data" / "adapters"
ROUNDED_SUMS = 1e-4  # where what is compared with was rounded three times
ROUNDED_X = 1e-3  # beside weights of 8 and 4 bits, which decoding multiplies by x rounded to 16 bits
MATRICES = ("decoder", "encoder", "encoder_v", "lm_head")
REFUSED = {"use_dora": True, "rank_pattern": {"decoder": 2}, "alpha_pattern": {"decoder": 3}, "modules_to_save": ["embed"],
           "bias": "lora_only", "peft_type": "IA3", "init_lora_weights": "pissa", "layers_to_transform": [0], "of_a_later_peft": 1}


class Refusing(Command):
    def refusal(self, *arguments):
        done = subprocess.run([str(self.path), *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.stderr if done.returncode == 1 else f"exit code {done.returncode}"


def random_adapter(model, generator, **options):
    """An adapter that changes something: PEFT starts with B = 0."""
    wrapped = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return wrapped


def save(wrapped, folder, binary=False):
    wrapped.save_pretrained(folder, safe_serialization=not binary)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(dict(config, base_model_name_or_path="base"), indent=2, sort_keys=True) + "\n")


def base_model(command, folder, name, generator, **sizes):
    """A random model as PyTorch saved it, and as transformers has it."""
    config = bdh_torch.config_of(dropout=0.0, **sizes)
    plain, made = folder / f"{name}-plain", folder / name
    write_model(plain, config, bdh_torch.random_state(config, generator, 0.1))
    command.run("convert", plain, made, "--huggingface", "--overwrite")
    return plain, made, config


def logits(command, model, tokens, *adapters, options=("--dtype", "f32")):
    out = command.folder / "logits.safetensors"
    given = [word for adapter in adapters for word in ("--adapter", adapter)]
    command.run("logits", model, "--tokens", ",".join(map(str, tokens)), "--out", out, "--device", "cpu", *options, *given)
    return load_file(out)["logits"]


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.tensor([tokens])).logits[0].float()


def own_error(want, model, tokens):
    """How far PyTorch's float32 is from its float64, or float64 from itself when every weight is moved by about half its last bit."""
    exact_model = copy.deepcopy(model).double()
    exact, errors, generator = logits_of(exact_model, tokens), [], torch.Generator().manual_seed(1)
    for _ in range(3):
        other = copy.deepcopy(exact_model)
        for parameter in other.parameters():
            parameter.data = moved(parameter.data, torch.float32, generator)
        errors.append(relative_difference(logits_of(other, tokens), exact))
    return max(relative_difference(want, exact), *errors)


def agree(got, want, model, tokens):
    """Whether they are within the tolerance; `want` is the model's in float32."""
    difference = relative_difference(got, want)
    return difference <= TOLERANCE or difference <= OWN_ERRORS * own_error(want, model, tokens)


def targets_of(model, draw):
    """Parameters by the names of the state_dict, some of them."""
    names = [key for key in model.state_dict() if key.partition(".")[0] in MATRICES]
    return draw.sample(names, draw.randint(1, len(names)))


def head_adapter(state, parameters, generator, rank):
    """{parameter: {lora_A, lora_B, scaling}} as people write it by hand, with matrices for every head where the parameter has heads."""
    def matrices(shape):
        heads, (rows, columns) = shape[:-2], shape[-2:]
        return {"lora_A": torch.randn(*heads, rows, rank, generator=generator) * 0.3,
                "lora_B": torch.randn(*heads, rank, columns, generator=generator) * 0.3, "scaling": (0.5 + torch.rand(1, generator=generator)).item()}
    return {name: matrices(state[name].shape) for name in parameters}


def save_head_adapter(adapter, path):
    if path.suffix == ".safetensors":
        return save_file({f"{name}.{key}": torch.as_tensor(value) for name, one in adapter.items() for key, value in one.items()}, path)
    torch.save(adapter, path)


def with_head_adapter(model, adapter):
    """The model with the adapter in its weights."""
    model = copy.deepcopy(model)
    state = model.state_dict()
    model.load_state_dict({**state, **{name: state[name] + one["scaling"] * (one["lora_A"] @ one["lora_B"]) for name, one in adapter.items()}})
    return model


def check_head_adapters(checks, command, folder, where, model, plain, tokens, draw, generator):
    for kind in (".pt", ".safetensors"):
        parameters = targets_of(model, draw)
        adapter = head_adapter(model.state_dict(), parameters, generator, draw.choice((1, 2, 5)))
        path = folder / f"{where}-heads{kind}"
        save_head_adapter(adapter, path)
        adapted = with_head_adapter(model, adapter)
        want, got = logits_of(adapted, tokens), logits(command, plain, tokens, path)
        checks.that(agree(got, want, adapted, tokens), f"{where}, by head, {kind}, {parameters}: {relative_difference(got, want)}")


def truncated(difference, rank):
    u, s, v = torch.linalg.svd(difference.double(), full_matrices=False)
    return (u[..., :rank] * s[..., None, :rank]) @ v[..., :rank, :], (s[..., :rank].square().sum() / s.square().sum()).item()


def check_extraction(checks, command, folder, where, plain, state, config, draw, generator):
    """The best approximation of a difference, as PyTorch has it."""
    tuned, out, rank = folder / f"{where}-tuned", folder / f"{where}-extracted", draw.randint(1, config["n_embd"] // 2)
    changed = {name: value if name.endswith("freqs") else value + 0.1 * torch.randn(value.shape, generator=generator)
               for name, value in state.items()}
    write_model(tuned, config, changed)
    command.run("adapter", "extract", plain, tuned, out, "--rank", rank)
    held = {part["parameter"]: part["held"]
            for part in json.loads(command.run("adapter", "extract", plain, tuned, out, "--rank", rank, "--overwrite", "--json"))}
    command.run("adapter", "merge", plain, out, folder / "near", "--overwrite")
    near = load_file(folder / "near" / "model.safetensors")
    for name, value in state.items():
        if name.endswith("freqs"):
            continue
        best, share = truncated(changed[name] - value, rank)
        checks.that(abs(held[name] - share) <= 1e-6, f"{where}, {name}, rank {rank}: {held[name]} is held, not {share}")
        off = relative_difference(near[name], value + best.float())
        checks.that(off <= TOLERANCE, f"{where}, {name}, rank {rank}: extracted, {off}")


def check_refusals(checks, command, made, adapter, folder):
    """What makes an adapter another function is named."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    for key, value in REFUSED.items():
        other = folder / "refused"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(adapter, other)
        (other / "adapter_config.json").write_text(json.dumps(dict(config, **{key: value})))
        said = command.refusal("adapter", "inspect", made, other)
        checks.that(key in said and said.count("\n") == 1, f"{key} = {value}: {said!r}")


def check_quantized(checks, command, folder, where, model, plain, adapter, difference, tokens):
    """An adapter beside weights of 8 and 4 bits, in every form, against PyTorch's sum of what those stand for and the adapter."""
    model = copy.deepcopy(model)
    for bits in (8, 4):
        small, floats = folder / "small", folder / "floats"
        command.run("quantize", plain, small, "--bits", bits, "--overwrite")
        command.run("convert", small, floats, "--dequantize", "--overwrite")
        model.load_state_dict({name: value + difference[name] for name, value in load_file(floats / "model.safetensors").items()})
        want = logits_of(model, tokens)
        own = own_error(want, model, tokens)
        for form in ("parallel", "recurrent"):
            off = relative_difference(logits(command, small, tokens, adapter, options=("--form", form)), want)
            checks.that(off <= max(ROUNDED_X, OWN_ERRORS * own), f"{where}, {bits} bits, {form}: {off}")


def check_one(checks, command, folder, where, draw, generator, **sizes):
    plain, made, config = base_model(command, folder, where, generator, **sizes)
    model, _ = loaded(made, dtype=torch.float32)
    tokens = [draw.randrange(config["vocab_size"]) for _ in range(30)]
    plainly = logits_of(model, tokens)
    check_head_adapters(checks, command, folder, where, model, plain, tokens, draw, generator)
    check_extraction(checks, command, folder, where, plain, load_file(plain / "model.safetensors"), config, draw, generator)
    parts = []
    for index in range(3):
        options = dict(r=draw.choice((1, 2, 4, 7)), lora_alpha=draw.choice((1, 8, 12.5)), use_rslora=draw.random() < 0.5)
        by_module = draw.random() < 0.5
        parameters = targets_of(model, draw) + ([] if by_module or draw.random() < 0.5 else ["embed.weight"])
        wrapped = random_adapter(model, generator, target_modules=["embed"] if by_module else [], target_parameters=parameters, **options)
        adapter, what = folder / f"{where}-adapter{index}", f"{where}, {options}, {parameters}, embed by module {by_module}"
        save(wrapped, adapter, binary=draw.random() < 0.3)
        want = logits_of(wrapped, tokens)
        checks.that(relative_difference(plainly, want) > 1e-3, f"{what}: the adapter does something")
        got = logits(command, plain, tokens, adapter)
        checks.that(agree(got, want, wrapped, tokens), f"{what}: applied, {relative_difference(got, want)}")
        merged, by_peft = folder / "merged", wrapped.merge_and_unload()
        command.run("adapter", "merge", made, adapter, merged, "--overwrite")
        ours = load_file(merged / "model.safetensors")
        worst = max((ours[name] - value).abs().max().item() for name, value in by_peft.state_dict().items())
        checks.that(worst <= 2e-7, f"{what}: merged weights are off by {worst}")
        again, unmatched = loaded(merged, dtype=torch.float32)
        checks.that(not unmatched and agree(logits_of(again, tokens), want, again, tokens), f"{what}: merged, in transformers")
        parts.append((adapter, {name: value - model.state_dict()[name] for name, value in by_peft.state_dict().items()}))
    check_quantized(checks, command, folder, where, model, plain, *parts[2], tokens)
    sums = {name: value + 0.5 * parts[0][1][name] - 2 * parts[1][1][name] for name, value in model.state_dict().items()}
    model.load_state_dict(sums)
    got = logits(command, plain, tokens, f"{parts[0][0]}:0.5", f"{parts[1][0]}:-2")
    difference = relative_difference(got, logits_of(model, tokens))
    checks.that(difference <= ROUNDED_SUMS, f"{where}: two adapters, scaled: {difference}")
    check_refusals(checks, command, made, parts[0][0], folder)


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator, checks = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed), Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Refusing(arguments.bdh, folder)
        for index in range(arguments.models):
            heads = draw.choice((1, 2, 3))
            check_one(checks, command, folder, f"model{index}", draw, generator, n_layer=draw.randint(1, 3), n_embd=draw.choice((6, 16, 24)),
                      n_head=heads, mlp_internal_dim_multiplier=heads * draw.choice((2, 4)), vocab_size=draw.choice((17, 60)),
                      tie_layers=index % 2 == 0)
    print(f"adapter parity: {checks.done} checks, {f'{len(checks.failed)} failures' if checks.failed else 'ok'}")
    return 1 if checks.failed else 0


def write(arguments):
    generator = torch.Generator().manual_seed(5)
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    cases = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Command(arguments.bdh, folder)
        sizes = dict(n_layer=2, n_embd=8, n_head=2, mlp_internal_dim_multiplier=4, vocab_size=19)
        for base, tied, kinds in (("tied", True, {"matrices": (dict(r=2, lora_alpha=6), [], list(MATRICES), False),
                                                  "rslora": (dict(r=4, lora_alpha=8, use_rslora=True), ["embed"], ["encoder"], False),
                                                  "binary": (dict(r=1, lora_alpha=1), [], ["decoder", "embed.weight"], True)}),
                                  ("untied", False, {"layers": (dict(r=3, lora_alpha=4), [], ["encoder.0", "encoder.1", "decoder.1"], False)})):
            plain, made, _ = base_model(command, folder, base, generator, tie_layers=tied, **sizes)
            shutil.copytree(plain, DATA / base)
            model, _ = loaded(made, dtype=torch.float32)
            for kind, (options, modules, parameters, binary) in kinds.items():
                wrapped = random_adapter(model, generator, target_modules=modules, target_parameters=parameters, **options)
                save(wrapped, DATA / kind, binary)
                tokens = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
                cases.append({"model": base, "adapter": kind, "tokens": tokens, "last": logits_of(wrapped, tokens)[-1].tolist()})
            if tied:
                adapter = head_adapter(model.state_dict(), ("encoder", "encoder_v", "decoder"), torch.Generator().manual_seed(6), 2)
                for kind in (".pt", ".safetensors"):
                    save_head_adapter(adapter, DATA / f"heads{kind}")
                last = logits_of(with_head_adapter(model, adapter), tokens)[-1].tolist()
                (DATA / "expected_heads.json").write_text(json.dumps({"tokens": tokens, "last": last}) + "\n")
    (DATA / "expected.json").write_text(json.dumps(cases, indent=1) + "\n")
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
