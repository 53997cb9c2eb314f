"""Compares packed models with PyTorch's safetensors: rows as documented, aligned, the same logits, and readers that refuse them by name.

    packed_parity.py check --bdh build/bdh
    packed_parity.py write     # tests/data/packed: small models packed by PyTorch, their state_dicts and logits
"""
import argparse
import json
import pathlib
import random
import shutil
import sys
import tempfile

import huggingface_parity  # first: it sets what transformers reads when imported

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import bdh_torch
from checks import Checks
from logits_parity import Command, relative_difference, write_model
from quantization_parity import GROUP, floats_of, logits, refusal

UNIT, QUANTIZED_UNIT = 16, 64  # numbers of which a row has whole ones
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "packed"


def padded(rows, unit):
    return torch.nn.functional.pad(rows, (0, -rows.shape[-1] % unit))


def packed_floats(state):
    """A state_dict of floats as bdh/model/packed_layout.h describes it."""
    packed = {}
    for name, tensor in state.items():
        if name.startswith("encoder"):
            packed[f"{name}.rows"] = padded(tensor.transpose(-1, -2), UNIT)
        elif name.startswith(("decoder", "lm_head")):
            packed[name] = padded(tensor, UNIT)
        else:
            packed[name] = tensor
    return packed


def packed_integers(state):
    """The same of a quantized one."""
    packed = {}
    for name, tensor in state.items():
        four = tensor.dtype == torch.uint8 or state.get(name.removesuffix(".scales"), tensor).dtype == torch.uint8
        unit = QUANTIZED_UNIT // (2 if four else 1)
        if name.endswith(".scales"):
            unit = QUANTIZED_UNIT // GROUP if four else 1
        packed[name] = tensor if name == "attn.freqs" else padded(tensor, unit)
    return packed


def alignment(count):
    return min(count & -count, 64)


def check_file(checks, directory, want, where):
    """As the safetensors package reads it."""
    file = directory / "model.safetensors"
    got = load_file(file)
    checks.that(got.keys() == want.keys() and all(torch.equal(got[name], want[name]) for name in got),
                f"{where}: other tensors than the documented layout")
    with safe_open(file, "pt") as opened:
        checks.that(opened.metadata().get("bdh.layout") == "packed", f"{where}: metadata {opened.metadata()}")
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    for name in want:
        begin, end = header[name]["data_offsets"]
        checks.that((8 + length + begin) % alignment(end - begin) == 0, f"{where}: {name} begins at {8 + length + begin}")


def check_model(checks, command, folder, plain, config, tokens, where):
    packed, again = folder / "packed", folder / "again"
    command.run("convert", plain, packed, "--packed", "--overwrite")
    command.run("convert", packed, again, "--overwrite")
    original = load_file(plain / "model.safetensors")
    quantized = any(name.endswith(".scales") for name in original)
    check_file(checks, packed, packed_integers(original) if quantized else packed_floats(original), where)
    checks.that((plain / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes(),
                f"{where}: unpacked to other bytes")
    floats = {name: tensor if name == "attn.freqs" or not quantized else
              floats_of(name, tensor, original[f"{name}.scales"], config["n_embd"])
              for name, tensor in original.items() if not name.endswith(".scales")}
    want = bdh_torch.logits({name: tensor.float() for name, tensor in floats.items()}, config, tokens)
    for form in ("recurrent", "chunked", "parallel"):
        ours = logits(command, packed, tokens, form)
        checks.that(torch.equal(ours, logits(command, plain, tokens, form)), f"{where}, {form}: not the bits of the model")
        difference = relative_difference(ours, want)
        checks.that(difference <= (3e-4 if quantized else 1e-5), f"{where}, {form}: {difference} of the largest logit")
    # Written by the package, in its order and not aligned: rows are copied, and run.
    save_file(load_file(packed / "model.safetensors"), packed / "model.safetensors", {"format": "pt", "bdh.layout": "packed"})
    checks.that(torch.equal(logits(command, packed, tokens, "recurrent"), logits(command, plain, tokens, "recurrent")),
                f"{where}: written by the safetensors package")


def check_refusals(checks, command, plain, folder):
    """transformers and a strict load_state_dict must not take rows for columns."""
    made, packed, unnamed = folder / "transformers", folder / "transformers-packed", folder / "unnamed"
    command.run("convert", plain, made, "--huggingface")
    command.run("convert", made, packed, "--huggingface", "--packed")
    command.run("convert", plain, unnamed, "--packed")
    said = refusal(lambda: AutoModelForCausalLM.from_pretrained(packed, trust_remote_code=True))
    print(f"transformers: {said.splitlines()[0] if said else 'LOADED'}")
    checks.that("are packed (quant_method 'bdh')" in said, f"transformers: {said}")
    checks.that(bool(refusal(lambda: AutoModelForCausalLM.from_pretrained(unnamed, trust_remote_code=True))),
                "transformers loaded packed weights without a model_type")
    model = AutoModelForCausalLM.from_pretrained(made, trust_remote_code=True)
    said = refusal(lambda: model.load_state_dict(load_file(packed / "model.safetensors"), strict=True))
    checks.that("encoder.rows" in said, f"load_state_dict: {said[:300]}")
    command.run("convert", packed, folder / "unpacked", "--huggingface")
    again = AutoModelForCausalLM.from_pretrained(folder / "unpacked", trust_remote_code=True)
    checks.that(all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items()),
                "an unpacked model loads in transformers")


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed)
    checks = Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Command(arguments.bdh, folder)
        for index in range(arguments.models):
            config = bdh_torch.config_of(n_layer=draw.randint(1, 3), n_embd=draw.choice((16, 20, 32, 48, 64, 96)), dropout=0.0,
                                         n_head=draw.choice((1, 2, 4)), mlp_internal_dim_multiplier=8,
                                         vocab_size=draw.choice((17, 256, 300)), tie_layers=index % 2 == 0)
            tokens = [draw.randrange(config["vocab_size"]) for _ in range(draw.choice((5, 40, 300)))]
            written = folder / f"written{index}"
            write_model(written, config, bdh_torch.random_state(config, generator))
            for kind in (*DTYPES, "8", "4"):
                where, plain = f"model {index}, D {config['n_embd']}, V {config['vocab_size']}, {kind}", folder / "plain"
                if kind in DTYPES:
                    command.run("convert", written, plain, "--dtype", kind, "--overwrite")
                else:
                    command.run("quantize", written, plain, "--bits", kind, "--overwrite")
                check_model(checks, command, folder, plain, config, tokens, where)
        check_refusals(checks, command, folder / "written0", folder)
    print(f"packed parity: {checks.done} checks, {f'{len(checks.failed)} failures' if checks.failed else 'ok'}")
    return 1 if checks.failed else 0


def write(_):
    """Each as PyTorch and safetensors alone make it, packed by the functions above."""
    generator = torch.Generator().manual_seed(1128)
    shutil.rmtree(DATA, ignore_errors=True)
    for name, tied, dtype in (("tied", True, torch.float32), ("untied", False, torch.bfloat16)):
        config = bdh_torch.config_of(n_layer=2, n_embd=20, dropout=0.0, n_head=2, mlp_internal_dim_multiplier=2, vocab_size=17,
                                     tie_layers=tied)
        state = {key: tensor if key == "attn.freqs" else tensor.to(dtype)
                 for key, tensor in bdh_torch.random_state(config, generator).items()}
        tokens = list(range(17))
        folder = DATA / name
        folder.mkdir(parents=True)
        packed = {key: tensor.contiguous() for key, tensor in packed_floats(state).items()}
        save_file(packed, folder / "model.safetensors", {"format": "pt", "bdh.layout": "packed"})
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / "state_dict.safetensors")
        quantization = {"quantization_config": {"quant_method": "bdh", "layout": "packed"}}
        (folder / "config.json").write_text(json.dumps({**config, **quantization}, indent=2) + "\n")
        want = bdh_torch.logits({key: tensor.float() for key, tensor in state.items()}, config, tokens)
        save_file({"logits": want.float().contiguous(), "tokens": torch.tensor(tokens)}, folder / "logits.safetensors")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("write").set_defaults(run=write)
    checking = modes.add_parser("check")
    checking.add_argument("--bdh", type=pathlib.Path, required=True)
    checking.add_argument("--models", type=int, default=4)
    checking.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    checking.set_defaults(run=check)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
