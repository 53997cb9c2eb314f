"""Model directories, both ways: what bdh saves loads in PyTorch, what PyTorch and huggingface_hub save loads in bdh.

    pretrained_parity.py check --bdh build/bdh [--models 4 --seed N]    random models, dtypes, forms and shard sizes
    pretrained_parity.py write                                          writes tests/data/checkpoints anew

Bits, file names and splits must be equal; logits may differ by 1e-5 of the largest.
"""
import argparse
import json
import logging
import pathlib
import random
import shutil
import sys
import tempfile

import torch
from huggingface_hub import save_torch_state_dict, split_torch_state_dict_into_shards
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import bdh_torch
from logits_parity import Command, DTYPES, random_model, relative_difference, too_far, write_model

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "checkpoints"
OPTIONS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def bits(tensor):
    return tensor.contiguous().flatten().view(torch.uint8)


def assert_same(found, expected, where):
    assert list(sorted(found)) == list(sorted(expected)), f"{where}: tensors {sorted(found)}"
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, f"{where}: {name}: {found[name].dtype}, expected {tensor.dtype}"
        assert found[name].shape == tensor.shape, f"{where}: {name}: {tuple(found[name].shape)}"
        assert torch.equal(bits(found[name]), bits(tensor)), f"{where}: {name}: other bits"


def config_of(directory):
    """As BDHConfig(**json) takes it: six fields and no other; tie_layers where it is false."""
    config = json.loads((directory / "config.json").read_text())
    assert list(config) == list(bdh_torch.config_of(tie_layers="tie_layers" not in config)), f"{directory.name}: config.json holds {list(config)}"
    return config


def state_of(directory):
    """The state_dict of a directory, as PyTorch programs read it."""
    for index, load in (("model.safetensors.index.json", load_file), ("pytorch_model.bin.index.json", load_pickle)):
        if (directory / index).exists():
            files = set(json.loads((directory / index).read_text())["weight_map"].values())
            return {name: tensor for file in files for name, tensor in load(directory / file).items()}
    if (directory / "model.safetensors").exists():
        return load_file(directory / "model.safetensors")
    return load_pickle(directory / "model.pt")


def load_pickle(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def assert_logits(command, directory, config, state, draw, where):
    tokens = [draw.randrange(config["vocab_size"]) for _ in range(draw.randint(2, 40))]
    want = bdh_torch.logits(bdh_torch.cast(state, torch.float32), config, tokens)
    difference = relative_difference(command.logits(directory, tokens, "f32", (), 1, None), want)
    assert not too_far(difference, bdh_torch.cast(state, torch.float32), config, tokens), f"{where}: logits differ by {difference:.1e}"
    return difference


# --- ours, read by Python

def check_split(directory, state, size, where):
    """Our shards against the package's split of the same state_dict."""
    split = split_torch_state_dict_into_shards(state, max_shard_size=size)
    index = directory / "model.safetensors.index.json"
    assert index.exists() == split.is_sharded, f"{where}: {'no ' if split.is_sharded else ''}shards"
    if not split.is_sharded:
        return 1
    ours = json.loads(index.read_text())
    assert ours["weight_map"] == split.tensor_to_filename, f"{where}: {ours['weight_map']}, package {split.tensor_to_filename}"
    assert ours["metadata"]["total_size"] == split.metadata["total_size"], f"{where}: total_size"
    for file, tensors in split.filename_to_tensors.items():
        with safe_open(directory / file, framework="pt") as shard:
            assert sorted(shard.keys()) == sorted(tensors), f"{where}: {file}"
            assert shard.metadata() == {"format": "pt", "format_version": "1", "run": "7"}, f"{where}: {shard.metadata()}"
    return len(split.filename_to_tensors)


def check_ours(command, draw, generator, models):
    shards = pickles = 0
    worst = 0.0
    for number in range(models):
        config, state = random_model(draw, generator, tie_layers=number % 2 == 0)
        source, target = command.folder / f"theirs{number}", command.folder / f"ours{number}"
        write_model(source, config, state)
        for dtype in (None, *DTYPES.values()):
            largest = sum(tensor.nbytes for tensor in state.values())
            size = draw.choice((1, largest // 5 + 1, largest // 2, "3KB", "0.5MB", "5GB"))
            expected = bdh_torch.cast(state, dtype) if dtype else state
            where = f"{config}, {dtype}, shards of {size}"
            options = ("--dtype", OPTIONS[dtype]) if dtype else ()
            command.run("convert", source, target, "--overwrite", "--max-shard-size", size, "--metadata", "run=7", *options)
            assert config_of(target) == config, where
            assert_same(state_of(target), expected, where)
            shards += check_split(target, expected, size, where)
            worst = max(worst, assert_logits(command, target, config, expected, draw, where))
            command.run("convert", source, target, "--overwrite", "--to", "pt", "--max-shard-size",
                        draw.choice(("5GB", largest // 3 + 1)), *options)
            assert not list(target.glob("*.safetensors*")), f"{where}: old weights stay"
            assert_same(state_of(target), expected, where)
            pickles += 1
    print(f"ours: {models} models, {shards} safetensors files split as the package splits, {pickles} saved as PyTorch's; "
          f"bits equal, logits {worst:.1e}")


# --- theirs, read by us

def with_prefix(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def checkpoint(config, state):
    """What a training script saves."""
    return {"model_state_dict": with_prefix("_orig_mod.", state), "config": config, "step": 7, "loss": 1.25,
            "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]}}


def their_forms(config, state, draw):
    """Name -> a function that writes the weights, and whether config.json stands beside them."""
    size = draw.choice((1, sum(tensor.nbytes for tensor in state.values()) // 3, "4KB"))
    no_freqs = {name: tensor for name, tensor in state.items() if name != "attn.freqs"}
    transposed = {name: tensor.transpose(0, -1).contiguous().transpose(0, -1) for name, tensor in state.items()}
    return {
        "safetensors": (lambda d: save_file(state, d / "model.safetensors"), True),
        "model.pt": (lambda d: torch.save(state, d / "model.pt"), True),
        "model.pt, strided": (lambda d: torch.save(transposed, d / "model.pt"), True),
        "pytorch_model.bin": (lambda d: torch.save(with_prefix("module.", state), d / "pytorch_model.bin"), True),
        "prefixes": (lambda d: save_file(with_prefix("_orig_mod.module.", state), d / "model.safetensors"), True),
        "no attn.freqs": (lambda d: save_file(no_freqs, d / "model.safetensors"), True),
        "half attn.freqs": (lambda d: torch.save({**state, "attn.freqs": state["attn.freqs"].half()}, d / "model.pt"), True),
        "checkpoint": (lambda d: torch.save(checkpoint(config, state), d / "model.pt"), False),
        "shards": (lambda d: save_torch_state_dict(state, d, max_shard_size=size), True),
        "bin shards": (lambda d: save_torch_state_dict(state, d, max_shard_size=size, safe_serialization=False), True),
    }


def assert_freqs_near(found, expected, where):
    """Derived by us and by PyTorch, whose pow is not always the nearest float32."""
    assert torch.allclose(found, expected, rtol=4e-7, atol=0), f"{where}: attn.freqs"


def check_theirs(command, draw, generator, models):
    worst, loaded = 0.0, 0
    for number in range(models):
        config, state = random_model(draw, generator, tie_layers=number % 2 == 0)
        dtype = draw.choice((torch.float32, torch.bfloat16, torch.float16, torch.float64))
        state = bdh_torch.cast(state, dtype)
        for name, (write, with_config) in their_forms(config, state, draw).items():
            source, target = command.folder / "source", command.folder / "target"
            for directory in (source, target):
                shutil.rmtree(directory, ignore_errors=True)
            source.mkdir()
            write(source)
            if with_config:
                (source / "config.json").write_text(json.dumps(config))
            where = f"{name}, {config}, {dtype}"
            worst = max(worst, assert_logits(command, source, config, state, draw, where))
            command.run("convert", source, target)
            found = load_file(target / "model.safetensors")
            if "attn.freqs" in name:
                assert_freqs_near(found["attn.freqs"], state["attn.freqs"], where)
                found["attn.freqs"] = state["attn.freqs"]
            assert_same(found, state, where)
            assert config_of(target) == config, where
            loaded += 1
    print(f"theirs: {loaded} directories loaded; bits equal, logits {worst:.1e}")


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    logging.disable(logging.WARNING)  # of pickles
    draw, generator = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        command = Command(arguments.bdh, pathlib.Path(folder))
        check_ours(command, draw, generator, arguments.models)
        check_theirs(command, draw, generator, arguments.models)


def write_golden():
    """Tiny models in the forms that only PyTorch writes, with their weights as safetensors."""
    config = bdh_torch.config_of(n_layer=1, n_embd=4, dropout=0.0, n_head=1, mlp_internal_dim_multiplier=2, vocab_size=5)
    state = bdh_torch.random_state(config, torch.Generator().manual_seed(1))
    DATA.mkdir(parents=True, exist_ok=True)
    save_file(state, DATA / "expected.safetensors")
    torch.save(checkpoint(config, state), DATA / "checkpoint.pt")
    config = dict(config, n_layer=2, tie_layers=False)
    state = bdh_torch.random_state(config, torch.Generator().manual_seed(2))
    torch.save(checkpoint(config, state), DATA / "untied_layers.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("write")
    checking = modes.add_parser("check")
    checking.add_argument("--bdh", type=pathlib.Path, required=True)
    checking.add_argument("--models", type=int, default=4)
    checking.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    if arguments.mode == "write":
        return write_golden()
    return check(arguments)


if __name__ == "__main__":
    sys.exit(main())
