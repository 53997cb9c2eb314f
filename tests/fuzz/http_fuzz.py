"""Sends bdh serve bytes that no client should: http_fuzz.py --bdh build/bdh MODEL --seconds 60 [--seed N]

Requests that are right, with bytes changed, left out, repeated or cut in pieces, from several connections at once, some of which
vanish. The server must be there at the end, answer, and end with exit code 0: build it with sanitizers to see more (make sanitize).
"""
import argparse
import collections
import json
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

CLIENTS = 4
ALLOWED = {"501", "503", "504", "507"}  # of 5xx
TOKENS = [b"\r\n", b"\r\n\r\n", b"\n", b":", b" ", b"\0", b"\xff", b"HTTP/1.1", b"HTTP/1.0", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n",
          b"Expect: 100-continue\r\n", b"Range: bytes=0-0,1-1\r\n", b"Connection: close\r\n", b"Content-Encoding: gzip\r\n", b"Accept-Encoding: gzip, br\r\n",
          b"Content-Type: multipart/form-data; boundary=x\r\n", b"ffffffffffffffff\r\n", b"-1", b"99999999999999999999", b"%00", b"%2e%2e/", b"../",
          b'"stream": true,', b'"n": 16,', b'{"', b"[[[[", b"null", b"1e999", b"\xf0\x9f\xa6\x89", b'"logprobs": 20,', b'"echo": true,', b'"return_state": true,']


def request(method, path, body=None):
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer none\r\n"
    if body is None:
        return head.encode() + b"\r\n"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def chunked(path, *pieces):
    data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return f"POST {path} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + data + b"0\r\n\r\n"


def seeds(state):
    short = {"prompt": "ROMEO:", "max_tokens": 5, "seed": 1}
    return [
        request("GET", "/"), request("GET", "/health"), request("GET", "/metrics"), request("GET", "/openapi.json"), request("GET", "/v1/models"),
        request("HEAD", "/v1/models"), request("OPTIONS", "/v1/completions"), request("POST", "/v1/completions", short),
        request("POST", "/v1/completions", {**short, "stream": True, "logprobs": 2, "activity": True, "return_state": "x"}),
        request("POST", "/v1/completions", {**short, "prompt": [[1, 2], [3]], "n": 2, "echo": True}),
        request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3, "stream": True}),
        request("POST", "/v1/embeddings", {"input": ["a", "b"]}), request("POST", "/generate", {"prompt": "a", "max_tokens": 3}),
        request("POST", "/v1/states", {"prompt": "abc", "id": "x"}), request("GET", "/v1/states"), request("GET", "/v1/states/x/synapses?top=3"),
        request("POST", "/v1/states/x/fork", {"id": "y"}), request("DELETE", "/v1/states/x"), request("PUT", "/v1/states/x", state),
        chunked("/v1/completions", b'{"prompt": "a"', b', "max_tokens": 2}'), request("PUT", "/v1/states/x", state[:5000]),
    ]


def mutated(draw, known):
    data = bytearray(draw.choice(known))
    for _ in range(draw.choice((0, 1, 1, 2, 4, 16))):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = draw.randrange(256)
        elif kind == 1:
            data[at:at] = draw.choice(TOKENS)
        elif kind == 2:
            del data[at:at + draw.choice((1, 2, 8, 100))]
        elif kind == 3:
            data[at:at] = data[at:at + draw.choice((1, 10, 200))] * draw.choice((1, 2, 50))
        elif kind == 4:
            data[at:at] = draw.randbytes(draw.choice((1, 4, 30)))
        else:
            del data[at:]
    return bytes(data)


def send_one(draw, port, known, answers):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        data = b"".join(mutated(draw, known) for _ in range(draw.choice((1, 1, 1, 3))))
        pieces = sorted(draw.randrange(len(data) + 1) for _ in range(draw.choice((0, 0, 1, 3))))
        for begin, end in zip([0, *pieces], [*pieces, len(data)]):
            client.sendall(data[begin:end])
        if draw.random() < 0.2:
            return
        client.shutdown(socket.SHUT_WR) if draw.random() < 0.5 else client.settimeout(0.3)
        reply = client.recv(65536)
        answers[reply[9:12].decode(errors="replace") if reply.startswith(b"HTTP/1.1 ") else f"{len(reply) and 'other'}"] += 1


def client(seed, port, known, until, answers):
    draw = random.Random(seed)
    while time.monotonic() < until:
        try:
            send_one(draw, port, known, answers)
        except OSError:
            answers["no answer"] += 1


def start(bdh, model):
    words = [str(bdh), "serve", str(model), "--port", "0", "--max-tokens", "50", "--client-seconds", "1", "--queue", "64", "--state-bytes", str(1 << 28)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    said = []
    for line in process.stderr:
        said.append(line)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        if found:
            threading.Thread(target=lambda: said.extend(process.stderr), daemon=True).start()
            return process, int(found[1]), said
    sys.exit("".join(said))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--bdh", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed} (repeat with --seed)")
    process, port, said = start(arguments.bdh, arguments.model)
    url = f"http://127.0.0.1:{port}"
    urllib.request.urlopen(urllib.request.Request(url + "/v1/states", json.dumps({"prompt": "abc", "id": "seed"}).encode())).read()
    known = seeds(urllib.request.urlopen(url + "/v1/states/seed").read())
    answers, until = collections.Counter(), time.monotonic() + arguments.seconds
    threads = [threading.Thread(target=client, args=(arguments.seed + i, port, known, until, answers)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    problems = [f"answered {status}" for status in answers if status.startswith("5") and status not in ALLOWED]
    if process.poll() is not None or urllib.request.urlopen(url + "/health", timeout=30).status != 200:
        problems.append("the server is not there any more")
    process.send_signal(signal.SIGTERM)
    if process.wait(timeout=60) != 0:
        problems.append(f"exit code {process.returncode}: {''.join(said)[-4000:]}")
    print(f"http: {sum(answers.values())} answers in {arguments.seconds:.0f} s, {dict(answers.most_common())}")
    print("http: " + ("; ".join(problems) if problems else "ok"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
