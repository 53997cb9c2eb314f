"""The golden files of tests/data/safetensors, and our files read by the reference package.

    python safetensors_parity.py check --tests build/bdh_tests    golden files are still what the package writes; it
                                                                  reads what our writer wrote, every bit
    python safetensors_parity.py write                            writes tests/data/safetensors anew
"""
import argparse
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "safetensors"
DTYPES = ("float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool "
          "float8_e4m3fn float8_e5m2 float8_e8m0fnu float8_e4m3fnuz float8_e5m2fnuz").split()
NAMES = ["", "attn.freqs", "größe", "quote\"back\\slash/", "tab\tline\n", "\x1b[2J", "😀", "a", "B"]


def patterned(dtype, shape):
    """The tensor of that dtype and shape whose bytes are a fixed pattern."""
    dtype = getattr(torch, dtype)
    count = torch.Size(shape).numel() * dtype.itemsize
    pattern = [i % 2 if dtype == torch.bool else (i * 37 + 11) % 256 for i in range(count)]
    return torch.tensor(pattern, dtype=torch.uint8).view(dtype).reshape(shape)


def samples():
    """File name -> (tensors, metadata). At most one metadata key: the package writes several in random order."""
    shapes = {"scalar": ("float32", []), "vector": ("float32", [5]), "matrix": ("bfloat16", [3, 4]),
              "odd": ("uint8", [3]), "deep": ("int16", [1, 2, 1, 1, 3, 1]), "empty": ("bool", [0, 7])}
    return {
        "dtypes.safetensors": ({name: patterned(name, [2, 3]) for name in DTYPES}, {"format": "pt"}),
        "shapes.safetensors": ({name: patterned(*spec) for name, spec in shapes.items()}, None),
        "names.safetensors": ({name: patterned("float16", [2]) for name in NAMES},
                              {"schlüssel \"1\"": "line\none\ttab \\ \x7f \x01 量"}),
    }


def written_by_package(tensors, metadata):
    return save(tensors, metadata)


def bits(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).tolist()


def assert_same(found, expected, where):
    assert found.keys() == expected.keys(), f"{where}: tensors {sorted(found)}, expected {sorted(expected)}"
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, f"{where}: {name}: {found[name].dtype}, expected {tensor.dtype}"
        assert found[name].shape == tensor.shape, f"{where}: {name}: {found[name].shape}, expected {tensor.shape}"
        assert bits(found[name]) == bits(tensor), f"{where}: {name}: other bits"


def assert_metadata(path, expected):
    with safe_open(path, framework="pt") as file:
        assert (file.metadata() or {}) == (expected or {}), f"{path.name}: metadata {file.metadata()}"


def check_golden():
    for name, sample in samples().items():
        assert (DATA / name).read_bytes() == written_by_package(*sample), f"{name}: the package writes other bytes now"


def check_ours(tests):
    expected = samples()
    transposed = patterned("bfloat16", [300, 500]).t()
    expected["strided.safetensors"] = ({"transposed": transposed}, {"a": "1", "z": "2"})
    with tempfile.TemporaryDirectory() as directory:
        command = [tests, "-tc=parity: write safetensors*"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "BDH_PARITY_OUT": directory})
        for name, (tensors, metadata) in expected.items():
            path = pathlib.Path(directory) / name
            assert_same(load_file(path), tensors, name)
            assert_metadata(path, metadata)
            header_bytes, = struct.unpack("<Q", path.read_bytes()[:8])
            assert header_bytes % 8 == 0, f"{name}: header of {header_bytes} bytes"
    return len(expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "write"])
    parser.add_argument("--tests", help="the bdh_tests program")
    arguments = parser.parse_args()
    if arguments.action == "write":
        DATA.mkdir(parents=True, exist_ok=True)
        for name, sample in samples().items():
            (DATA / name).write_bytes(written_by_package(*sample))
        return
    if not arguments.tests:
        parser.error("check needs --tests build/bdh_tests")
    check_golden()
    count = check_ours(arguments.tests)
    print(f"safetensors: golden files agree, {count} of our files read bit for bit by the package")


if __name__ == "__main__":
    sys.exit(main())
