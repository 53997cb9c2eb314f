"""Makes the demo model from a directory with config.json and model.pt, as PyTorch saved them.

    convert_demo.py SOURCE DESTINATION [--text FILE]

Writes config.json, generation_config.json and model.safetensors: parameters rounded to bfloat16, attn.freqs float32.
With --text, also prints the loss on that text's last 10 %, before and after rounding. The card is written by hand.
"""
import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

import bdh_torch

GENERATION = {"max_new_tokens": 100, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "do_sample": True, "horizon": 48}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("destination", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--block", type=int, default=256)
    arguments = parser.parse_args()

    config = bdh_torch.config_of(**json.loads((arguments.source / "config.json").read_text()))
    state = torch.load(arguments.source / "model.pt", map_location="cpu", weights_only=True)

    arguments.destination.mkdir(parents=True, exist_ok=True)
    halved = {name: tensor.contiguous() for name, tensor in bdh_torch.cast(state, torch.bfloat16).items()}
    save_file(halved, arguments.destination / "model.safetensors", {"format": "pt"})
    write_json(arguments.destination / "config.json", config)
    write_json(arguments.destination / "generation_config.json", GENERATION)

    if arguments.text:
        text = arguments.text.read_bytes()
        tail = list(text[len(text) * 9 // 10 :])
        for name, parameters in (("float32", state), ("bfloat16", bdh_torch.rounded(state, torch.bfloat16))):
            print(f"{name}: {bdh_torch.evaluate(parameters, config, tail, arguments.block):.4f} nats a byte, blocks of {arguments.block}")


if __name__ == "__main__":
    main()
