"""Measures bdh serve, as JSON: streams together against one, steps while a long prompt is read, the prefix cache, HTTP's own cost.

    bench/serve.py --bdh build/bdh MODEL [--dtype bf16] [--tokens 200] [--position 512]

Python's standard library alone; the client runs on the same cores. Rates come from whole texts, latencies from streams.
"""
import argparse
import json
import pathlib
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

LONG_PROMPT = 100_000
COMMON = 10_000


class Server:
    def __init__(self, bdh, model, *options):
        words = [str(bdh), "serve", str(model), "--port", "0", "--max-body", "16000000", *map(str, options)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        for line in self.process.stderr:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.url = f"http://127.0.0.1:{found[1]}"
                break
        else:
            sys.exit(f"failed: {' '.join(words)}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def open(self, **body):
        data = json.dumps(body).encode()
        return urllib.request.urlopen(urllib.request.Request(self.url + "/v1/completions", data), timeout=3600)

    def text(self, **body):
        with self.open(**body) as reply:
            return json.load(reply)

    def metric(self, name):
        with urllib.request.urlopen(self.url + "/metrics") as reply:
            return next(float(line.rpartition(" ")[2]) for line in reply.read().decode().splitlines() if line.startswith(name))


def letters(count, seed):
    draw = random.Random(seed)
    return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz   \n") for _ in range(count))


def together(jobs):
    """Runs them all at once; the seconds until the last has ended."""
    threads = [threading.Thread(target=job) for job in jobs]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def rate_of(server, streams, tokens, position):
    """Tokens a second of so many texts at once, after prompts that have been read before: the prefix cache has all but their ends."""
    prompts = [letters(position, seed) for seed in range(streams)]
    for prompt in prompts:
        server.text(prompt=prompt, max_tokens=1)
    def one(i):
        return lambda: server.text(prompt=prompts[i], max_tokens=tokens, seed=i)
    short = together([(lambda i=i: server.text(prompt=prompts[i], max_tokens=1, seed=i)) for i in range(streams)])
    return streams * (tokens - 1) / (together([one(i) for i in range(streams)]) - short)


def gaps_of(server, prompt, tokens):
    """Seconds between the tokens of a stream."""
    times = []
    with server.open(prompt=prompt, max_tokens=tokens, seed=1, stream=True, logprobs=0) as reply:
        for line in reply:
            if line.startswith(b"data: {"):
                times.append(time.perf_counter())
    return [after - before for before, after in zip(times, times[1:])]


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def latency_during_prompt(server, tokens):
    alone = gaps_of(server, "ab", tokens)
    reading = threading.Thread(target=lambda: server.text(prompt=letters(LONG_PROMPT, 99), max_tokens=1))
    reading.start()
    time.sleep(0.2)
    during = gaps_of(server, "ab", tokens)
    reads_still = reading.is_alive()
    reading.join()
    return alone, during, reads_still


def first_token(server, prompt):
    began = time.perf_counter()
    text = server.text(prompt=prompt, max_tokens=1, temperature=0)
    return time.perf_counter() - began, text


def prefix_cache(server):
    common = letters(COMMON, 7)
    cold, _ = first_token(server, common + " and one more question?")
    warm, text = first_token(server, common + " But what of this other?")
    return cold, warm, text["usage"]["prompt_tokens_details"]["cached_tokens"]


def own_rate(bdh, model, options, tokens, position):
    """Tokens a second of bdh generate, for what HTTP costs."""
    words = [str(bdh), "generate", str(model), "--prompt", letters(position, 0), "-n", str(tokens), "--seed", "0", "--json", *options]
    return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)["decode_tokens_per_second"]


def connections(server, count):
    """So many requests at once: how many were answered 200 and 429, and anything else."""
    statuses = []
    def one(i):
        try:
            with server.open(prompt="ROMEO:", max_tokens=20, seed=i, stream=i % 2 == 0) as reply:
                reply.read()
                statuses.append(reply.status)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
        except OSError as error:
            statuses.append(str(error))
    seconds = together([(lambda i=i: one(i)) for i in range(count)])
    return {str(status): statuses.count(status) for status in sorted(set(statuses), key=str)}, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--bdh", type=pathlib.Path, required=True)
    parser.add_argument("--dtype")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--position", type=int, default=512)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-prompt", action="store_true", help="without the prompt of 100,000 tokens")
    arguments = parser.parse_args()
    options = ["--dtype", arguments.dtype] if arguments.dtype else []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    found = {}
    with Server(arguments.bdh, arguments.model, *options, "--state-bytes", 16 << 30, "--batch", arguments.streams) as server:
        ones, manys, owns = [], [], []
        for _ in range(arguments.rounds):
            ones.append(rate_of(server, 1, arguments.tokens, arguments.position))
            manys.append(rate_of(server, arguments.streams, arguments.tokens, arguments.position))
            owns.append(own_rate(arguments.bdh, arguments.model, options, arguments.tokens, arguments.position))
        one, many, own = map(statistics.median, (ones, manys, owns))
        found["tokens_per_second"] = {"one": one, f"{arguments.streams} together": many, "times": many / one, "bdh generate": own,
                                      "http_share": 1 - one / own}
        if not arguments.skip_prompt:
            alone, during, reads_still = latency_during_prompt(server, 300)
            found["p99_milliseconds"] = {"alone": 1e3 * percentile(alone, 0.99), "while a prompt is read": 1e3 * percentile(during, 0.99),
                                         "times": percentile(during, 0.99) / percentile(alone, 0.99), "to the end": reads_still}
        cold, warm, cached = prefix_cache(server)
        found["first_token_seconds"] = {"cold": cold, "warm": warm, "times": cold / warm, "cached tokens": cached}
        answers, seconds = connections(server, 1000)
        found["1000 at once"] = {"answers": answers, "seconds": seconds, "peak_bytes": server.metric("bdh_resident_bytes_peak")}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
