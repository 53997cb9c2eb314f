"""Trains a model of the default size for about a minute on a GPU and writes a directory that bdh loads, so that the
benchmarks can be run on neurons as sparse as training makes them.

    python bench/train_default.py DIRECTORY [--text FILE] [--seconds 60]

Without --text it reads this repository's own sources and pages. Prints the loss and how many neurons are active on the
way. The model is that of kernels/backend.h, one byte a token; it is no good for anything but measuring.
"""
import argparse
import json
import math
import pathlib
import sys
import time

import torch
from torch.nn import functional

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))
import bdh_torch


def repository_text():
    """What is written in this repository: English and C++, a megabyte or so."""
    files = [path for folder in ("bdh", "kernels", "tools", "tests", "bench") for path in sorted((ROOT / folder).rglob("*"))
             if path.suffix in (".h", ".cpp", ".cu", ".py", ".md")]
    return b"\n".join(path.read_bytes() for path in files)


class Model(torch.nn.Module):
    """The parameters, with the names and shapes of a state_dict."""

    def __init__(self, config, generator):
        super().__init__()
        self.config = config
        state = bdh_torch.random_state(config, generator)
        self.register_buffer("freqs", state.pop("attn.freqs").flatten())
        self.names = {name.replace(".", "_"): name for name in state}
        for name, tensor in state.items():
            setattr(self, name.replace(".", "_"), torch.nn.Parameter(tensor))

    def turns(self, length):
        """Cosines and sines (T, N) of positions 0 .. T-1; phases are rounded as float32."""
        positions = torch.arange(length, dtype=torch.float32, device=self.freqs.device).unsqueeze(1)
        angle = torch.frac(positions * self.freqs) * (2 * math.pi)
        return torch.cos(angle), torch.sin(angle)

    def forward(self, tokens, shares=None):
        """tokens (B, T) -> logits (B, T, V). shares: a list that takes each layer's share of active n and g."""
        x = bdh_torch.norm(self.embed_weight[tokens]).unsqueeze(1)
        cos, sin = (part.to(torch.bfloat16 if x.is_cuda else x.dtype) for part in self.turns(tokens.shape[1]))
        for _ in range(self.config["n_layer"]):
            n = functional.relu(x @ self.encoder)  # B H T N
            partner = torch.stack((-n[..., 1::2], n[..., 0::2]), dim=-1).flatten(-2)
            r = n * cos + partner * sin
            scores = torch.tril(r @ r.transpose(-1, -2), diagonal=-1)
            gated = n * functional.relu(bdh_torch.norm(scores @ x) @ self.encoder_v)
            if shares is not None:
                shares.append(((n > 0).float().mean().item(), (gated > 0).float().mean().item()))
            gated = functional.dropout(gated, self.config["dropout"], self.training)
            mixed = gated.transpose(1, 2).flatten(2) @ self.decoder
            x = bdh_torch.norm(x + bdh_torch.norm(mixed).unsqueeze(1))
        return x.squeeze(1) @ self.lm_head

    def state_dict_of_bdh(self):
        state = {name: getattr(self, ours).detach().float().cpu().contiguous() for ours, name in self.names.items()}
        return {**state, "attn.freqs": self.freqs.float().cpu().view(1, 1, 1, -1).contiguous()}


def some_blocks(data, batch, block):
    starts = torch.randint(len(data) - block - 1, (batch, 1), device=data.device)
    rows = data[starts + torch.arange(block + 1, device=data.device)]
    return rows[:, :-1], rows[:, 1:]


def rate(done):
    """The learning rate's share when `done` of the time is over: a short rise, then half a cosine."""
    return min(done / 0.05, 1.0) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def report(model, data, options, step, loss):
    shares = []
    with torch.no_grad(), torch.autocast(data.device.type, torch.bfloat16, enabled=data.is_cuda):
        model.eval()
        model(some_blocks(data, 1, options.block)[0], shares)
        model.train()
    n, g = ([f"{share[i]:.3f}" for share in shares] for i in (0, 1))
    print(f"step {step}: loss {loss:.3f}; active n {' '.join(n)}; g {' '.join(g)}", flush=True)


def train(model, data, options):
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.1)
    start, step, loss = time.monotonic(), 0, math.nan
    while (passed := time.monotonic() - start) < options.seconds:
        for group in optimizer.param_groups:
            group["lr"] = options.rate * rate(passed / options.seconds)
        inputs, targets = some_blocks(data, options.batch, options.block)
        with torch.autocast(data.device.type, torch.bfloat16, enabled=data.is_cuda):
            logits = model(inputs)
            error = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss = error.item()  # waits, so that the clock above tells the truth
        if step % 50 == 0:
            report(model, data, options, step, loss)
        step += 1
    report(model, data, options, step, loss)


def save(model, directory):
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict_of_bdh(), str(directory / "model.safetensors"), {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(model.config, indent=2) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name in ("n_layer", "n_embd", "n_head", "mlp_internal_dim_multiplier"):
        parser.add_argument(f"--{name}", type=int, default=bdh_torch.FIELDS[name])
    return parser.parse_args()


def main():
    options = arguments()
    torch.manual_seed(options.seed)
    text = options.text.read_bytes() if options.text else repository_text()
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long().to(options.device)
    sizes = {name: getattr(options, name) for name in ("n_layer", "n_embd", "n_head", "mlp_internal_dim_multiplier")}
    model = Model(bdh_torch.config_of(**sizes), torch.Generator().manual_seed(options.seed)).to(options.device)
    print(f"{len(text)} bytes of text, {sum(p.numel() for p in model.parameters())} parameters, {options.device}", flush=True)
    train(model, data, options)
    save(model, options.directory)
    print(f"written: {options.directory}")


if __name__ == "__main__":
    main()
