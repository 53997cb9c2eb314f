"""Loading, beside PyTorch: a directory of 1 GB of weights, warm in the page cache, both sides in turn.

    python bench/load.py --bdh build/bdh [--megabytes 1000] [--repeat 5] [--json]

Prints medians: the load call alone, the whole process from start to the first logits, and its peak memory. Needs torch and
safetensors; the directory is made in the temporary folder and removed.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENS = [84, 111, 32, 98, 101, 32, 111, 114]

# What a user of PyTorch would write, without time spent on initial values that are replaced.
PEER = """
import json, resource, sys, time
import torch
from safetensors.torch import load_file
sys.path.insert(0, {parity!r})
import bdh_torch
start = time.perf_counter()
state = load_file({directory!r} + "/model.safetensors")
loaded = time.perf_counter() - start
config = json.load(open({directory!r} + "/config.json"))
torch.set_num_threads({threads})
bdh_torch.logits(state, config, {tokens})
start = time.perf_counter()
torch.load({directory!r} + "/model.pt", weights_only=True) if {pickled} else None
print(json.dumps({{"load": loaded, "torch_load": time.perf_counter() - start,
                   "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}}))
"""


def make_directory(directory, megabytes):
    import safetensors.torch
    import torch

    sys.path.insert(0, str(ROOT / "tests/parity"))
    import bdh_torch

    multiplier = max(1, round(megabytes * 1e6 / 4 / 3 / 1024 / 1024))
    config = bdh_torch.config_of(n_layer=6, n_embd=1024, n_head=4, mlp_internal_dim_multiplier=multiplier)
    state = bdh_torch.random_state(config, torch.Generator().manual_seed(1))
    safetensors.torch.save_file(state, directory / "model.safetensors")
    torch.save(state, directory / "model.pt")
    (directory / "config.json").write_text(json.dumps(config))


def run_ours(bdh, directory, threads):
    out = directory / "logits.safetensors"
    command = [bdh, "logits", directory, "--tokens", ",".join(map(str, TOKENS)), "--out", out, "--threads", str(threads), "--json"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    text = process.stdout.read()
    peak = wait_for_peak(process)
    return {"process": time.perf_counter() - start, "load": json.loads(text)["load_seconds"], "peak": peak}


def wait_for_peak(process):
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{process.args[0]} failed")
    return usage.ru_maxrss * 1024


def run_peer(directory, threads, pickled):
    source = PEER.format(parity=str(ROOT / "tests/parity"), directory=str(directory), threads=threads, tokens=TOKENS, pickled=pickled)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return {"process": time.perf_counter() - start, **json.loads(done.stdout)}


def medians(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bdh", default="build/bdh")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        # In a process of its own: what this one holds would count as the peak of those it starts.
        maker = multiprocessing.Process(target=make_directory, args=(directory, options.megabytes))
        maker.start()
        maker.join()
        os.sync()
        size = (directory / "model.safetensors").stat().st_size
        ours, peer, pickled = [], [], []
        for _ in range(options.repeat):
            ours.append(run_ours(options.bdh, directory, options.threads))
            peer.append(run_peer(directory, options.threads, False))
            pickled.append(run_peer(directory, options.threads, True))
    mine, theirs = medians(ours), medians(peer)
    result = {
        "weights_bytes": size,
        "load_seconds": mine["load"],
        "load_file_seconds": theirs["load"],
        "torch_load_seconds": medians(pickled)["torch_load"],
        "process_seconds": mine["process"],
        "python_process_seconds": theirs["process"],
        "peak_bytes": mine["peak"],
        "peak_share_of_weights": mine["peak"] / size,
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"weights          {size / 1e6:.0f} MB")
    print(f"load call        {mine['load'] * 1e3:.2f} ms; load_file {theirs['load'] * 1e3:.2f} ms, torch.load {result['torch_load_seconds'] * 1e3:.0f} ms")
    print(f"to first logits  {mine['process']:.2f} s; Python {theirs['process']:.2f} s: {theirs['process'] / mine['process']:.1f} times")
    print(f"peak memory      {mine['peak'] / 1e6:.0f} MB: {result['peak_share_of_weights']:.3f} of the weights")


if __name__ == "__main__":
    main()
