"""Compares quantized models with PyTorch: the integers as documented, the same logits, and readers that refuse them by name.

    quantization_parity.py check --bdh build/bdh
"""
import argparse
import pathlib
import random
import sys
import tempfile

import huggingface_parity  # first: it sets what transformers reads when imported

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import bdh_torch
from checks import Checks
from logits_parity import Command, relative_difference, write_model

GROUP = 32
DECODE = 3e-4  # of the largest logit: x is rounded to 16 bits where one token is read at a time
PREFILL = 3e-4  # the same for lm_head
STEP = 0.51  # of a scale, the largest error of 8 bits; float16 scales take a little


def unpacked(values, width):
    """(.., 16 G) uint8 to (.., width) integers."""
    groups = values.view(*values.shape[:-1], -1, GROUP // 2).to(torch.int32)
    both = torch.cat((groups & 15, groups >> 4), dim=-1) - 8
    return both.flatten(-2)[..., :width]


def floats_of(name, values, scales, width):
    """A matrix as bdh/model/quantization.h describes it, in the state_dict's shape."""
    if values.dtype == torch.int8:
        rows = values.float() * scales.float()[..., None]
    else:
        rows = unpacked(values, width).float() * scales.float().repeat_interleave(GROUP, dim=-1)[..., :width]
    in_columns = name.startswith(("encoder", "lm_head"))
    return rows.transpose(-1, -2).contiguous() if in_columns else rows


def dequantized(directory, config):
    tensors = load_file(directory / "model.safetensors")
    return {name: tensor if name == "attn.freqs" else floats_of(name, tensor, tensors[f"{name}.scales"], config["n_embd"])
            for name, tensor in tensors.items() if not name.endswith(".scales")}


def logits(command, directory, tokens, form):
    out = directory / "logits.safetensors"
    command.run("logits", directory, "--tokens", ",".join(map(str, tokens)), "--out", out, "--form", form, "--device", "cpu")
    return load_file(out)["logits"]


def check_rounding(checks, state, small, bits, where):
    for name, exact in state.items():
        if name == "attn.freqs":
            checks.that(torch.equal(exact, small[name]), f"{where}: {name}")
            continue
        rows = exact.transpose(-1, -2) if name.startswith(("encoder", "lm_head")) else exact
        error = (small[name] - exact).abs().max()
        most = rows.abs().amax() / (127 if bits == 8 else 7)
        checks.that(error <= STEP * most * (1 if bits == 8 else 2), f"{where}: {name} is off by {error}, a scale is {most}")


def check_logits(checks, command, directory, floats, config, tokens, where):
    small = dequantized(directory, config)
    ours = load_file(floats / "model.safetensors")
    checks.that(small.keys() == ours.keys() and all(torch.equal(small[name], ours[name]) for name in small),
                f"{where}: bdh convert --dequantize gives other floats than the documented layout")
    want = bdh_torch.logits(ours, config, tokens)
    for form, most in (("recurrent", DECODE), ("chunked", PREFILL), ("parallel", PREFILL)):
        difference = relative_difference(logits(command, directory, tokens, form), want)
        print(f"{where}, {form}: {difference:.1e} of the largest logit")
        checks.that(difference <= most, f"{where}, {form}: {difference}")
    checks.that(relative_difference(logits(command, floats, tokens, "recurrent"), want) <= 1e-5, f"{where}: the dequantized model")
    return small


def refusal(call):
    try:
        call()
    except Exception as error:  # whatever kind it is
        return f"{type(error).__name__}: {error}"
    return ""


def check_refusals(checks, command, plain, folder, bits):
    """transformers and a strict load_state_dict must not take integers for weights."""
    made, small = folder / f"transformers{bits}", folder / f"small{bits}"
    command.run("convert", plain, made, "--huggingface", "--overwrite")
    command.run("quantize", made, small, "--bits", bits, "--overwrite")
    said = refusal(lambda: AutoModelForCausalLM.from_pretrained(small, trust_remote_code=True))
    print(f"transformers, {bits} bits: {said.splitlines()[0] if said else 'LOADED'}")
    checks.that("quant_method 'bdh'" in said, f"transformers on {bits} bits: {said}")
    unnamed = folder / f"unnamed{bits}"
    command.run("quantize", plain, unnamed, "--bits", bits, "--overwrite")
    said = refusal(lambda: AutoModelForCausalLM.from_pretrained(unnamed, trust_remote_code=True))
    checks.that(bool(said), f"transformers loaded {bits} bits without a model_type")
    model = AutoModelForCausalLM.from_pretrained(made, trust_remote_code=True)
    said = refusal(lambda: model.load_state_dict(load_file(small / "model.safetensors"), strict=True))
    checks.that("encoder.scales" in said or "encoder.0.scales" in said, f"load_state_dict on {bits} bits: {said[:300]}")
    command.run("convert", small, folder / f"floats{bits}", "--dequantize", "--huggingface", "--overwrite")
    again = AutoModelForCausalLM.from_pretrained(folder / f"floats{bits}", trust_remote_code=True)
    checks.that(again.config.n_embd == model.config.n_embd, "a dequantized model loads in transformers")


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed)
    checks = Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Command(arguments.bdh, folder)
        for index in range(arguments.models):
            config = bdh_torch.config_of(n_layer=draw.randint(1, 4), n_embd=draw.choice((16, 20, 32, 48, 64, 96, 128)), dropout=0.0,
                                         n_head=draw.choice((1, 2, 4)), mlp_internal_dim_multiplier=8,
                                         vocab_size=draw.choice((17, 256, 300)), tie_layers=index % 2 == 0)
            state = bdh_torch.random_state(config, generator)
            tokens = [draw.randrange(config["vocab_size"]) for _ in range(draw.choice((5, 40, 300)))]
            plain = folder / f"plain{index}"
            write_model(plain, config, state)
            for bits in (8, 4):
                where = f"model {index}, D {config['n_embd']}, {bits} bits"
                small, floats = folder / f"model{index}-{bits}", folder / f"floats{index}-{bits}"
                command.run("quantize", plain, small, "--bits", bits)
                command.run("convert", small, floats, "--dequantize")
                check_rounding(checks, state, check_logits(checks, command, small, floats, config, tokens, where), bits, where)
        for bits in (8, 4):
            check_refusals(checks, command, folder / "plain0", folder, bits)
    print(f"quantization parity: {checks.done} checks, {f'{len(checks.failed)} failures' if checks.failed else 'ok'}")
    return 1 if checks.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    checking = modes.add_parser("check")
    checking.add_argument("--bdh", type=pathlib.Path, required=True)
    checking.add_argument("--models", type=int, default=6)
    checking.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    return check(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
