"""Training steps of `bdh train` beside PyTorch's: time of a step, tokens/s and peak memory, in one interleaved run.

    training.py --bdh build/bdh [--case 'short|recipe'] [--rounds 5] [--no-compile] [--json FILE]

Each round runs every peer on the same batches in a process of its own, one after the other; a peer's time is the median of its steps
but the first WARM, a ratio is taken within a round, and what is printed is the median of the rounds with the least and the greatest.
Peers: `eager`, tests/parity/bdh_torch.py and torch.optim.AdamW, and the same under torch.compile. Memory is the largest resident set
of the process, its libraries included (`PyTorch alone` is what importing it takes). The limit is the products of forward and backward
in full, scores and their gradients for the causal half (or, where that is less, a state that is read and added to), over the better
of two products by torch.mm: nothing is sparse in it, and what is computed again counts for nothing.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))

WARM = 2
SMALL = dict(n_layer=4, n_embd=128, n_head=4, mlp_internal_dim_multiplier=32, vocab_size=256)
AUTHORS = dict(n_layer=6, n_embd=256, n_head=4, mlp_internal_dim_multiplier=128, vocab_size=256, dropout=0.1)
CASES = {  # sizes, sequences, tokens, steps of a round
    "short": (SMALL, 8, 256, 10),
    "recipe": (AUTHORS, 1, 512, 5),  # one of the 32 sequences of the authors' batch: PyTorch keeps 3 GB for each
    "long": (SMALL, 1, 4096, 5),
    "longer": (SMALL, 1, 8192, 5),
}


def attention_flops(width, heads, neurons, tokens):
    """Of a layer, for each token, forwards."""
    causal = (heads * neurons + heads * width) * (tokens - 1)
    return min(causal, 4 * heads * neurons * width)


def flops(config, sequences, tokens):
    """Of a step: backward takes twice what forward does."""
    width, heads, vocab = config["n_embd"], config["n_head"], config["vocab_size"]
    neurons = config["mlp_internal_dim_multiplier"] * width // heads
    layer = 6 * heads * neurons * width + attention_flops(width, heads, neurons, tokens)
    return 3 * sequences * tokens * (config["n_layer"] * layer + 2 * width * vocab)


def text():
    files = sorted(path for path in ROOT.rglob("*.md") if ".git" not in path.parts)
    return b"\n".join(path.read_bytes() for path in files)


def write_case(folder, sizes, sequences, tokens, steps):
    """The model that all start from, and their batches."""
    import torch
    from safetensors.torch import save_file
    import bdh_torch
    generator = torch.Generator().manual_seed(0)
    config = bdh_torch.config_of(**{"dropout": 0.0, **sizes})
    data = torch.tensor(bytearray(text()))
    data = data.repeat(1 + (sequences + 1) * tokens // len(data))
    starts = torch.randint(len(data) - tokens - 1, (steps, sequences), generator=generator).tolist()
    batches = torch.stack([torch.stack([data[at : at + tokens + 1] for at in row]) for row in starts])
    folder.mkdir()
    save_file(bdh_torch.random_state(config, generator), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"tokens": batches.int()}, folder / "batches.safetensors")


def peer(folder, threads, compiled):
    """Trains in PyTorch; prints the seconds of each step and the last loss. compiled: under torch.compile."""
    import torch
    from safetensors.torch import load_file
    import bdh_torch
    torch.set_num_threads(threads)
    config = json.loads((folder / "config.json").read_text())
    state = bdh_torch.parameters(load_file(folder / "model.safetensors"))
    optimizer = torch.optim.AdamW([tensor for tensor in state.values() if tensor.requires_grad], lr=1e-3, weight_decay=0.1)
    loss_of = torch.compile(bdh_torch.loss) if compiled else bdh_torch.loss
    seconds = []
    for rows in load_file(folder / "batches.safetensors")["tokens"].long():
        start = time.perf_counter()
        loss = loss_of(state, config, rows[:, :-1], rows[:, 1:], dropout=config["dropout"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = loss.item()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "loss": value}))


def products(threads):
    """Flop/s of the better of two float32 products, in its best repetition."""
    import torch
    torch.set_num_threads(threads)
    best = 0.0
    for rows, inner, columns in ((2048, 2048, 2048), (512, 256, 8192)):
        a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
        for _ in range(8):
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * rows * inner * columns / (time.perf_counter() - start))
    print(best)


def run(words):
    """Standard output and the largest resident set in bytes; None where it failed, with its last line. Linux counts what this process
    has at the fork as the child's: so it stays small, and torch is imported by its children alone."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        status, usage = os.wait4(process.pid, 0)[1:]
        process.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        if process.returncode != 0:
            said = err.read().decode(errors="replace").strip().splitlines()
            return None, said[-1] if said else f"ended with {process.returncode}"
        out.seek(0)
        return out.read().decode(), usage.ru_maxrss * 1024


def itself(*words):
    return [sys.executable, __file__, *words]


def run_bdh(arguments, folder, number):
    target = folder / f"run{number}"
    out, memory = run([arguments.bdh, "train", "--batches", folder / "batches.safetensors", "--from", folder, "--out", target,
                       "--threads", arguments.threads])
    if out is None:
        sys.exit(f"failed: {memory}")
    lines = [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]
    tokens = [line["tokens"] - before["tokens"] for before, line in zip([{"tokens": 0}] + lines, lines)]
    return {"seconds": [count / line["tokens_per_second"] for count, line in zip(tokens, lines)], "memory": memory, "loss": lines[-1]["loss"]}


def run_peer(arguments, folder, name):
    out, memory = run(itself("--peer", name, "--folder", folder, "--threads", arguments.threads))
    if out is None:
        return {"failed": memory}
    return {**json.loads(out.splitlines()[-1]), "memory": memory}


def has_memory_for(config, sequences, tokens):
    """PyTorch keeps about five squares of scores and ten of neurons a layer."""
    heads = config["n_head"]
    neurons = config["mlp_internal_dim_multiplier"] * config["n_embd"]
    need = 4 * config["n_layer"] * sequences * tokens * (5 * heads * tokens + 10 * neurons)
    free = int(re.search(r"MemAvailable:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024
    return need < 0.8 * free


def measure(arguments, folder, name):
    _, sequences, tokens, _ = CASES[name]
    written, failure = run(itself("--peer", "case", "--case", name, "--folder", folder / name))
    if written is None:
        sys.exit(f"failed: {failure}")
    config = json.loads((folder / name / "config.json").read_text())
    peers = ["eager"] + ([] if arguments.no_compile else ["compile"])
    if not has_memory_for(config, sequences, tokens):
        peers = []
        print(f"{name}: not enough memory here for PyTorch", flush=True)
    rounds = []
    for number in range(arguments.rounds):
        told = {"bdh": run_bdh(arguments, folder / name, number)}
        for each in list(peers):
            told[each] = run_peer(arguments, folder / name, each)
            if "failed" in told[each]:
                print(f"{name}: {each} failed: {told[each]['failed'][:200]}", flush=True)
                peers.remove(each)
        rounds.append(told)
    return {"config": config, "sequences": sequences, "tokens": tokens, "flops": flops(config, sequences, tokens), "rounds": rounds}


def step_time(told):
    return statistics.median(told["seconds"][WARM:])


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def report(name, case, limit):
    print(f"{name}: {case['sequences']} x {case['tokens']} tokens, {case['config']['n_layer']} layers, D {case['config']['n_embd']}, "
          f"H {case['config']['n_head']}, M {case['config']['mlp_internal_dim_multiplier']}")
    for each in ("bdh", "eager", "compile"):
        rounds = [told for told in case["rounds"] if "seconds" in told.get(each, {})]
        if not rounds:
            continue
        seconds = statistics.median(step_time(told[each]) for told in rounds)
        memory = statistics.median(told[each]["memory"] for told in rounds)
        line = (f"  {each:8} {seconds * 1e3:9.1f} ms a step {case['sequences'] * case['tokens'] / seconds:9.0f} tokens/s "
                f"{memory / 2**20:7.0f} MB {case['flops'] / limit / seconds:6.1%} of the limit")
        if each != "bdh":
            line += f"; bdh {spread([step_time(told[each]) / step_time(told['bdh']) for told in rounds])} times as fast, "
            line += f"{statistics.median(told['bdh']['memory'] / told[each]['memory'] for told in rounds):.2f} of its memory"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bdh", type=pathlib.Path, default=ROOT / "build" / "bdh")
    parser.add_argument("--case", default="", help="a regular expression over " + ", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer == "products":
        return products(arguments.threads)
    if arguments.peer == "case":
        sizes, sequences, tokens, steps = CASES[arguments.case]
        return write_case(arguments.folder, sizes, sequences, tokens, steps + WARM)
    if arguments.peer == "nothing":
        __import__("torch")
        return 0
    if arguments.peer:
        return peer(arguments.folder, arguments.threads, arguments.peer == "compile")
    load = os.getloadavg()[0]
    results = {"machine": platform.processor() or platform.machine(), "threads": arguments.threads, "load": load,
               "date": time.strftime("%Y-%m-%d"), "import": run(itself("--peer", "nothing"))[1], "cases": {}}
    print(f"{arguments.threads} threads; load {load:.1f} before; PyTorch alone {results['import'] / 2**20:.0f} MB")
    limits = []
    with tempfile.TemporaryDirectory() as folder:
        for name in CASES:
            if not re.search(arguments.case, name):
                continue
            limits.append(float(run(itself("--peer", "products", "--threads", arguments.threads))[0]))
            results["cases"][name] = measure(arguments, pathlib.Path(folder), name)
    results["products"] = max(limits)
    print(f"products: {results['products'] / 1e9:.0f} GFLOP/s by torch.mm")
    for name, case in results["cases"].items():
        report(name, case, results["products"])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
