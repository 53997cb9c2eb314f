"""PyTorch as the benchmark's peer: answers each line on stdin with a line on stdout.

    forward T       seconds to read the first T tokens in one parallel pass, all logits
    recompute T     seconds for one more token after T, the way the authors' generate() does it: the whole prefix again
    cached T        seconds for one more token after T against a recurrent state, added to in place
    logits T        the logits after T tokens, from the parallel pass
    cached_logits T the same, the last token read against the state of those before it

usage: pytorch.py DIRECTORY --threads N      DIRECTORY holds config.json, model.safetensors and tokens.json
Knows the model's formulas through tests/parity/bdh_torch.py; nothing of what its answers are compared with.
"""
import argparse
import json
import math
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity"))
import torch
from safetensors.torch import load_file
from torch.nn import functional

import bdh_torch


def turn(n, freqs, positions):
    """n (..., T, N) rotated at positions (T)."""
    angle = torch.frac(positions.unsqueeze(1) * freqs.flatten()) * (2 * math.pi)
    partner = torch.stack((-n[..., 1::2], n[..., 0::2]), dim=-1).flatten(-2)
    return n * torch.cos(angle) + partner * torch.sin(angle)


class Recurrent:
    """Reads a prompt in parallel, then one token at a time against the state S (L, H, N, D)."""

    def __init__(self, state, config, prompt):
        self.state, self.config, self.position = state, config, 0
        self.memory = []
        self.layers(prompt, self.attend_in_parallel)

    def layers(self, tokens, attend):
        """tokens (T) -> logits (T, V)."""
        state = self.state
        positions = torch.arange(self.position, self.position + len(tokens), dtype=torch.float32)
        x = bdh_torch.norm(state["embed.weight"][tokens])
        for layer in range(self.config["n_layer"]):
            n = functional.relu(x @ state["encoder"])
            attended = attend(layer, turn(n, state["attn.freqs"], positions), x)
            gated = n * functional.relu(bdh_torch.norm(attended) @ state["encoder_v"])
            x = bdh_torch.norm(x + bdh_torch.norm(gated.transpose(0, 1).flatten(1) @ state["decoder"]))
        self.position += len(tokens)
        return x @ state["lm_head"]

    def attend_in_parallel(self, _, r, x):
        self.memory.append(r.transpose(1, 2) @ x)
        return torch.tril(r @ r.transpose(1, 2), diagonal=-1) @ x

    def attend_to_memory(self, layer, r, x):
        attended = r @ self.memory[layer]
        self.memory[layer].baddbmm_(r.transpose(1, 2), x.expand(len(r), -1, -1))
        return attended

    def read(self, token):
        return self.layers(token.reshape(1), self.attend_to_memory)[-1]


class Peer:
    def __init__(self, directory):
        self.config = bdh_torch.config_of(**json.loads((directory / "config.json").read_text()))
        self.state = load_file(str(directory / "model.safetensors"))
        self.tokens = torch.tensor(json.loads((directory / "tokens.json").read_text()))
        self.session = None

    def forward(self, count):
        return bdh_torch.logits(self.state, self.config, self.tokens[:count])

    def time_forward(self, count):
        start = time.perf_counter()
        self.forward(count)
        return time.perf_counter() - start

    def time_recompute(self, count):
        start = time.perf_counter()
        self.forward(count)[-1].argmax()
        return time.perf_counter() - start

    def time_cached(self, count):
        if self.session is None:
            self.session = Recurrent(self.state, self.config, self.tokens[:count])
            self.session.read(self.tokens[count])
        token = self.tokens[self.session.position % len(self.tokens)]
        start = time.perf_counter()
        self.session.read(token).argmax()
        return time.perf_counter() - start

    def logits(self, count):
        return " ".join(map(str, self.forward(count)[-1].tolist()))

    def cached_logits(self, count):
        session = Recurrent(self.state, self.config, self.tokens[: count - 1])
        return " ".join(map(str, session.read(self.tokens[count - 1]).tolist()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    peer = Peer(options.directory)
    answers = {"forward": peer.time_forward, "recompute": peer.time_recompute, "cached": peer.time_cached,
               "logits": peer.logits, "cached_logits": peer.cached_logits}
    with torch.inference_mode():
        peer.forward(16)
        print(f"torch {torch.__version__}", flush=True)
        for line in sys.stdin:
            try:
                question, count = line.split()
                print(answers[question](int(count)), flush=True)
            except Exception as error:  # the asker wants a line, whatever happened
                print("error:", str(error).replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
