"""Training by several processes under mpirun: the bits of one process, whatever is killed and resumed on the way.

    python ranks_parity.py check --bdh PROGRAM [--seed S]
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from safetensors.numpy import load_file

CONFIG = {"n_layer": 2, "n_embd": 32, "n_head": 2, "mlp_internal_dim_multiplier": 8, "vocab_size": 256, "dropout": 0.1}
STEPS = 60
MANY_STEPS = 1000  # mpirun passes SIGTERM on after a second
OPTIONS = "--batch 2 --block 48 --accumulate 6 --valid-every 20 --checkpoint-every 5 --ema 0.9 --sample-every 30".split()
SAME = ["step", "loss", "lr", "grad_norm", "tokens", "epoch", "valid_loss", "valid_bits_per_byte", "ema_valid_loss", "sample"]
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe"]


class Runs:
    """Runs of bdh train in one folder, on a text of drawn words."""

    def __init__(self, bdh, folder, rng):
        self.bdh, self.folder, self.rng = bdh, folder, rng
        words = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 6))) for _ in range(50)]
        (folder / "text").write_text(" ".join(rng.choices(words, k=8000)))
        (folder / "config.json").write_text(json.dumps(CONFIG))

    def command(self, ranks, out, more=(), steps=STEPS):
        launcher = MPIRUN + ["-n", str(ranks)] if ranks > 1 else []
        made = ["--data", self.folder / "text", "--config", self.folder / "config.json", "--steps", steps, *OPTIONS]
        made = [] if "--resume" in more else made
        return [str(word) for word in [*launcher, self.bdh, "train", "--out", self.folder / out, *made, *more]]

    def run(self, ranks, out, more=(), steps=STEPS):
        done = subprocess.run(self.command(ranks, out, more, steps), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done

    def fail(self, command, words):
        """One line of bdh that has these words, and no more of it."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        said = errors(done.stderr)
        assert done.returncode != 0 and len(said) == 1 and words in said[0], (words, done.returncode, done.stderr)

    def metrics(self, out):
        return [json.loads(line) for line in (self.folder / out / "metrics.jsonl").read_text().splitlines()]

    def steps_done(self, out):
        metrics = self.folder / out / "metrics.jsonl"
        return metrics.read_text().count("\n") if metrics.exists() else 0

    def interrupt(self, ranks, out, victim, steps=STEPS):
        """Starts a run and calls victim(mpirun's process) after a checkpoint; returns what it said."""
        with (self.folder / "said").open("w+") as said:
            run = subprocess.Popen(self.command(ranks, out, steps=steps), stdout=said, stderr=said)
            checkpoints, step = self.folder / out / "checkpoints", self.rng.randint(6, STEPS // 2)
            until = time.monotonic() + 60
            while self.steps_done(out) < step or not list(checkpoints.glob("checkpoint_step_*.safetensors")):
                assert run.poll() is None and time.monotonic() < until, (self.folder / "said").read_text()
                time.sleep(0.002)
            victim(run)
            began = time.monotonic()
            code = run.wait(timeout=60)
        text = (self.folder / "said").read_text()
        assert code != 0 and time.monotonic() - began < 30, (code, text)
        assert not (self.folder / out / "final").exists(), "the run had ended before it was stopped"
        return text


def errors(text):
    return [line for line in text.splitlines() if line.startswith("bdh: error")]


def processes_of(run):
    """Those that an mpirun of this machine started, in the order of ranks."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(run.pid)], capture_output=True, text=True).stdout
    return sorted(int(word) for word in listed.split())


def kill_rank(rank):
    def victim(run):
        subprocess.run(["kill", "-KILL", str(processes_of(run)[rank])], check=True)

    return victim


def compare(runs, out, expected, steps=STEPS):
    """Every bit of the models and of every step's numbers."""
    for model in ["final", "ema"]:
        ours, theirs = (load_file(runs.folder / name / model / "model.safetensors") for name in (out, expected))
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name].tobytes() == theirs[name].tobytes(), f"{out}/{model}: {name} differs"
    ours, theirs = ([{key: line.get(key) for key in SAME} for line in runs.metrics(name)] for name in (out, expected))
    assert len(ours) == steps and ours == theirs, f"{out}: metrics differ"


def check_same_bits(runs):
    for kind, more in {"plain": [], "carried": ["--carry-state", "--horizon", "12", "--dtype", "bf16"]}.items():
        runs.run(1, kind, more)
        for ranks in [2, 3]:
            runs.run(ranks, f"{kind}{ranks}", more)
            compare(runs, f"{kind}{ranks}", kind)
    print("2 and 3 ranks, plain, and carried states in bfloat16 with a horizon: the bits of one process")


def check_killed(runs):
    for number, (rank, ranks_after) in enumerate([(0, 1), (1, 2), (2, 1)]):
        out = f"killed{number}"
        said = errors(runs.interrupt(3, out, kill_rank(rank)))
        assert len(said) == 1 and f"rank {rank} has ended; the last checkpoint is" in said[0] and "--resume" in said[0], said
        runs.run(ranks_after, out, ["--resume"])
        compare(runs, out, "plain")
    print("rank 0, 1 and 2 of three killed, resumed with one rank and with two: the same bits; one line names the checkpoint")


def check_terminated(runs):
    runs.run(1, "long", steps=MANY_STEPS)
    said = runs.interrupt(2, "terminated", lambda run: run.send_signal(signal.SIGTERM), MANY_STEPS)
    assert "all is saved" in said and not errors(said), said
    step = runs.metrics("terminated")[-1]["step"]
    listed = subprocess.run([runs.bdh, "checkpoints", runs.folder / "terminated", "--json"], capture_output=True, text=True)
    saved = max(one["step"] for one in find_steps(json.loads(listed.stdout)))
    assert saved - step in (0, 1), (step, saved)  # a step whose validation was stopped has no metrics yet
    runs.run(3, "terminated", ["--resume"])
    compare(runs, "terminated", "long", MANY_STEPS)
    print("SIGTERM to mpirun: the step that was done last is saved; resumed with three ranks: the same bits")


def find_steps(json_value):
    """Every object in it that has a step."""
    if isinstance(json_value, list):
        return [one for value in json_value for one in find_steps(value)]
    if not isinstance(json_value, dict):
        return []
    return ([json_value] if "step" in json_value else []) + [one for value in json_value.values() for one in find_steps(value)]


def check_refused(runs):
    runs.fail(runs.command(4, "refused"), "4 ranks cannot share the 6 micro-batches of a step")
    runs.fail(runs.command(2, "refused", ["--data", "none"]), "none")
    assert not (runs.folder / "refused" / "checkpoints").exists() and not (runs.folder / "refused" / "metrics.jsonl").exists()
    missing = runs.folder / "none"
    differing = [*runs.command(1, "refused"), ":", "-n", "1", *runs.command(1, "refused", ["--data", missing])]
    runs.fail([*MPIRUN, "-n", "1", *differing], f"rank 1: {missing}")
    copied = runs.folder / "bdh"
    shutil.copy(runs.bdh, copied)
    runs.fail([*MPIRUN, "-n", "2", copied, "train", "--data", runs.folder / "text", "--out", runs.folder / "alone"], "make MPI=ON")
    assert not (runs.folder / "alone").exists()
    print("ranks that do not divide the micro-batches, a missing file, on one rank too, and no MPI: one line, nothing written")


def check(bdh, seed):
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(bdh, pathlib.Path(folder), rng)
        check_same_bits(runs)
        check_killed(runs)
        check_terminated(runs)
        check_refused(runs)


def why_not(bdh):
    if not shutil.which("mpirun"):
        return "there is no mpirun (apt-get install openmpi-bin)"
    if not bdh.with_name("bdh_mpi.so").exists():
        return "this build has no MPI (make MPI=ON)"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["check"])
    parser.add_argument("--bdh", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    reason = why_not(arguments.bdh)
    if reason:
        print(f"ranks: SKIPPED: {reason}")
        return
    print(f"ranks: seed {arguments.seed}", flush=True)
    check(arguments.bdh.resolve(), arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
