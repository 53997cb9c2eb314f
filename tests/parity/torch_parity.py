"""PyTorch files: the golden files of tests/data/torch, files drawn anew read by us, ours read by PyTorch.

    python torch_parity.py check --tests build/bdh_tests    golden files, fresh files of torch.save and our own files:
                                                            everybody reads the same bits
    python torch_parity.py write                            writes tests/data/torch anew
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
import zipfile

import torch

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "torch"
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
          torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
          torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.float8_e8m0fnu: "F8_E8M0",
          torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e5m2fnuz: "F8_E5M2FNUZ"}
CONFIG = {"n_layer": 6, "vocab_size": 256, "dropout": 0.1, "tied": False, "name": "größe", "big": 2 ** 40, "minus": -3,
          "huge": 2 ** 63 - 1, "none": None, "list": [1, [2.5, "x"], {}], "nested": {"a": {"b": True}}}


def drawn(shape, dtype=torch.float32):
    """A tensor of random bits."""
    count = torch.Size(shape).numel() * dtype.itemsize
    bits = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8)
    return bits.view(dtype).reshape(shape)


def model():
    layers = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3, bias=False))
    return layers


def trained():
    network = model()
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(7, 5)).sum().backward()
    optimizer.step()
    return network, optimizer


def views():
    base = drawn([6, 8])
    return {"transposed": base.t(), "sliced": base[1:5:2, 3:], "expanded": drawn([3, 1]).expand(3, 4),
            "column": base[:, 2], "offset": base[4], "last": base[5, 7], "one": base[2:3, 1:2]}


def shared():
    first = drawn([4, 4], torch.bfloat16)
    return {"first": first, "tied": first, "half": first[:2], "alone": drawn([3])}


def attributed():
    parameter = torch.nn.Parameter(torch.randn(3))
    parameter.is_special = True
    tensor = torch.randn(2)
    tensor.note = "kept"
    return {"parameter": parameter, "tensor": tensor}


def checkpoint(key="model_state_dict"):
    network, optimizer = trained()
    return {key: network.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "epoch": 3, "loss": float("nan"),
            "config": CONFIG, "rng": torch.get_rng_state(), "history": [1.5, 2.5], "shape": torch.Size([2, 3]),
            "device": torch.device("cuda", 1), "dtype": torch.bfloat16, "big": 2 ** 100, "pair": (1, "two")}


def cyclic():
    values = [1, 2]
    values.append(values)
    pair = ([],)
    pair[0].append(pair)
    return {"state_dict": {"w": drawn([2])}, "loop": values, "pair": pair}


def samples():
    """Name -> (what is saved, options of torch.save)."""
    prefixed = collections.OrderedDict(("module._orig_mod." + name, value) for name, value in model().state_dict().items())
    return {
        "dtypes": ({str(dtype): drawn([2, 3], dtype) for dtype in DTYPES}, {}),
        "shapes": ({"scalar": drawn([]), "empty": drawn([0, 7]), "deep": drawn([1, 2, 1, 1, 3, 1], torch.int16)}, {}),
        "views": (views(), {}),
        "shared": (shared(), {}),
        "state_dict": (model().state_dict(), {}),
        "parameters": (dict(model().named_parameters()), {}),
        "attributes": (attributed(), {}),
        "prefixed": (prefixed, {}),
        "checkpoint": (checkpoint(), {}),
        "checkpoint_state_dict": (checkpoint("state_dict"), {}),
        "checkpoint_model": (checkpoint("model"), {}),
        "protocol1": (checkpoint(), {"pickle_protocol": 1}),
        "protocol3": (checkpoint(), {"pickle_protocol": 3}),
        "protocol4": (checkpoint(), {"pickle_protocol": 4}),
        "protocol5": (checkpoint(), {"pickle_protocol": 5}),
        "cyclic": (cyclic(), {}),
        "many": ({f"layer.{i}.weight": drawn([1]) for i in range(2000)}, {}),
    }


GOLDEN = "dtypes shapes views shared state_dict attributes prefixed checkpoint protocol1 protocol4 cyclic".split()
KEYS = "model_state_dict state_dict model".split()


def dump(saved):
    """What bdh should find in the file, as tests/formats/torch/torch_dump.h writes it."""
    inner = next((saved[key] for key in KEYS if isinstance(saved.get(key), dict)), saved)
    tensors = {name: {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "bytes": bits(tensor)}
               for name, tensor in sorted(inner.items(), key=lambda item: item[0].encode()) if isinstance(tensor, torch.Tensor)}
    return {"tensors": tensors, "config": saved.get("config")}


def bits(tensor):
    return bytes(tensor.detach().contiguous().flatten().view(torch.uint8).tolist()).hex()


def recompress(source, target):
    """The same archive under another name for its folder, its entries deflated, without the newest records."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            name = entry.filename.split("/", 1)[1]
            if not name.startswith("."):
                new.writestr("folder of another name/" + name, old.read(entry))


def save(directory, name, sample):
    value, options = sample
    torch.save(value, directory / f"{name}.pt", **options)
    return dump(value)


def write_all(directory, names):
    """Files of torch.save, and what bdh should find in each."""
    expected = {name: save(directory, name, sample) for name, sample in samples().items() if name in names}
    recompress(directory / "shared.pt", directory / "deflated.pt")
    return {**expected, "deflated": expected["shared"]}


def write_golden():
    DATA.mkdir(parents=True, exist_ok=True)
    for name, expected in write_all(DATA, GOLDEN).items():
        (DATA / f"{name}.json").write_text(json.dumps(expected, ensure_ascii=False))


def check_golden():
    for path in DATA.glob("*.pt"):
        expected = json.loads(path.with_suffix(".json").read_text())
        # our own files, and the weights-only reader of PyTorch knows no protocol above 3
        assert dump(torch.load(path, weights_only=False)) == expected, f"{path.name}: PyTorch finds something else now"


def found_by_us(tests, directory):
    command = [tests, "-tc=parity: torch files"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "BDH_PARITY_TORCH": str(directory)})
    return {path.stem: json.loads(path.read_text()) for path in directory.glob("*.found")}


def check_fresh(tests):
    with tempfile.TemporaryDirectory() as name:
        directory, network = pathlib.Path(name), model()
        expected = write_all(directory, samples())
        expected["old"] = save(directory, "old", (checkpoint(), {"_use_new_zipfile_serialization": False}))
        expected["whole"] = dump(network.state_dict())
        torch.jit.save(torch.jit.script(model()), directory / "script.pt")
        torch.save(network, directory / "whole.pt")
        found = found_by_us(tests, directory)
        for name, dumped in expected.items():
            assert found[name] == dumped, f"{name}: bdh finds something else: {found[name].get('error')}"
        assert "TorchScript" in found["script"].get("error", ""), f"script: {found['script']}"
        check_ours(directory / "ours.bin", found["ours"])
    return len(expected)


def check_ours(path, expected):
    for mapped in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mapped)
        assert isinstance(loaded, collections.OrderedDict)
        assert dump(loaded) == expected, f"ours, mmap={mapped}: PyTorch finds something else"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None, "ours: a checksum is wrong"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "write"])
    parser.add_argument("--tests", help="the bdh_tests program")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    if arguments.action == "write":
        write_golden()
        return
    if not arguments.tests:
        parser.error("check needs --tests build/bdh_tests")
    print(f"torch: seed {arguments.seed}")
    check_golden()
    count = check_fresh(arguments.tests)
    print(f"torch: golden files agree, {count} files of torch.save and ours of every dtype read bit for bit")


if __name__ == "__main__":
    sys.exit(main())
