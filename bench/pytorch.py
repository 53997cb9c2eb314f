"""PyTorch as the benchmark's peer: answers each line on stdin, QUESTION DTYPE T COUNT, with numbers on one line of stdout.

    forward         COUNT times, seconds to read the first T tokens in one parallel pass, all logits
    compiled        the same under torch.compile
    recompute       seconds for one more token after T, the way the authors' generate() does it: the whole prefix again
    cached          seconds for one more token after T against a recurrent state in float32, added to in place
    graph           the same as a CUDA graph that also chooses the next token
    graph_half      the same with a state in DTYPE, which halves its bytes and loses what small numbers add to large ones
    logits          the logits after T tokens, from the parallel pass
    cached_logits   the same, the last token read against the state of those before it
    graph_logits    the same through the CUDA graph

usage: pytorch.py DIRECTORY [--device cpu|cuda:0] [--threads N]     DIRECTORY holds config.json, model.safetensors, tokens.json
DTYPE is f32, bf16 or f16. The model is tests/parity/bdh_torch.py. By hand:  echo 'graph bf16 512 5' | python bench/pytorch.py DIRECTORY --device cuda:0
"""
import argparse
import json
import math
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity"))

TOKENS = 16  # of a sample on a GPU, where one alone would be too short to time


def turn(n, freqs, positions):
    """n (..., T, N) rotated at positions (T), the phases in float32."""
    angle = torch.frac(positions.unsqueeze(1) * freqs.flatten()) * (2 * math.pi)
    partner = torch.stack((-n[..., 1::2], n[..., 0::2]), dim=-1).flatten(-2)
    return n * torch.cos(angle).to(n.dtype) + partner * torch.sin(angle).to(n.dtype)


class Recurrent:
    """Reads a prompt in parallel, then one token at a time against the state S (L, H, N, D) of dtype `memory`.

    The token and its position are tensors that stay where they are, so that the reading of a token can be recorded.
    """

    def __init__(self, state, config, prompt, memory):
        self.state, self.config, self.memory_dtype = state, config, memory
        self.position = torch.zeros(1, device=prompt.device)
        self.token = prompt[-1:].clone()
        self.memory = []
        self.layers(prompt, self.attend_in_parallel)

    def layers(self, tokens, attend):
        """tokens (T) -> logits (T, V)."""
        state = self.state
        positions = self.position + torch.arange(len(tokens), dtype=torch.float32, device=tokens.device)
        x = bdh_torch.norm(state["embed.weight"][tokens])
        for layer in range(self.config["n_layer"]):
            n = functional.relu(x @ state["encoder"])
            attended = attend(layer, turn(n, state["attn.freqs"], positions), x)
            gated = n * functional.relu(bdh_torch.norm(attended) @ state["encoder_v"])
            x = bdh_torch.norm(x + bdh_torch.norm(gated.transpose(0, 1).flatten(1) @ state["decoder"]))
        self.position += len(tokens)
        return x @ state["lm_head"]

    def attend_in_parallel(self, _, r, x):
        kept = self.memory_dtype
        self.memory.append(r.transpose(1, 2).to(kept) @ x.to(kept))
        return torch.tril(r @ r.transpose(1, 2), diagonal=-1) @ x

    def attend_to_memory(self, layer, r, x):
        kept = self.memory_dtype
        key = r.to(kept)
        attended = key @ self.memory[layer]
        self.memory[layer].baddbmm_(key.transpose(1, 2), x.to(kept).expand(len(r), -1, -1))
        return attended.to(x.dtype)

    def read(self):
        """Reads self.token; returns the logits (V) and puts the likeliest next token in its place."""
        logits = self.layers(self.token, self.attend_to_memory)[-1]
        self.token.copy_(logits.argmax(-1, keepdim=True))
        return logits


class Graph:
    """A Recurrent's read(), recorded once as a CUDA graph."""

    def __init__(self, session):
        warm = torch.cuda.Stream()
        warm.wait_stream(torch.cuda.current_stream())
        kept = [memory.clone() for memory in session.memory], session.position.clone(), session.token.clone()
        with torch.cuda.stream(warm):
            for _ in range(3):
                session.read()
        torch.cuda.current_stream().wait_stream(warm)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = session.read()
        for memory, before in zip(session.memory, kept[0]):
            memory.copy_(before)
        session.position.copy_(kept[1])
        session.token.copy_(kept[2])

    def read(self):
        self.graph.replay()
        return self.logits


class Peer:
    def __init__(self, directory, device):
        self.device = torch.device(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self.config = bdh_torch.config_of(**json.loads((directory / "config.json").read_text()))
        self.stored = load_file(str(directory / "model.safetensors"))
        self.tokens = torch.tensor(json.loads((directory / "tokens.json").read_text()), device=self.device)
        self.states, self.sessions, self.compiled_forward = {}, {}, None

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, body):
        self.synchronize()
        start = time.perf_counter()
        body()
        self.synchronize()
        return time.perf_counter() - start

    def state(self, dtype):
        if dtype not in self.states:
            cast = bdh_torch.cast(self.stored, DTYPES[dtype])
            self.states[dtype] = {name: tensor.to(self.device) for name, tensor in cast.items()}
        return self.states[dtype]

    def text(self, count):
        """The first count tokens of the text, which starts again at its end."""
        return self.tokens.repeat(count // len(self.tokens) + 1)[:count]

    def samples(self, body, count, warm=2):
        for _ in range(warm if self.device.type == "cuda" else 0):
            body()
        return [self.seconds(body) for _ in range(count)]

    def forward(self, dtype, length, count):
        state, tokens = self.state(dtype), self.text(length)
        return self.samples(lambda: bdh_torch.logits(state, self.config, tokens), count)

    def compiled(self, dtype, length, count):
        if self.compiled_forward is None:
            self.compiled_forward = torch.compile(bdh_torch.logits, dynamic=False)
        state, tokens = self.state(dtype), self.text(length)
        return self.samples(lambda: self.compiled_forward(state, self.config, tokens), count, warm=3)

    def recompute(self, dtype, length, count):
        state, tokens = self.state(dtype), self.text(length)
        return self.samples(lambda: bdh_torch.logits(state, self.config, tokens)[-1].argmax().item(), count)

    def session(self, kind, dtype, length):
        """One that has read `length` tokens at least; only the last asked for is kept."""
        key = kind, dtype, length
        if key not in self.sessions:
            self.sessions.clear()
            memory = DTYPES[dtype] if kind == "graph_half" else torch.float32
            made = Recurrent(self.state(dtype), self.config, self.text(length), memory)
            made.token.copy_(self.text(length + 1)[-1:])
            self.sessions[key] = made if kind == "cached" else Graph(made)
        return self.sessions[key]

    def decode(self, kind, dtype, length, count):
        session, tokens = self.session(kind, dtype, length), TOKENS if self.device.type == "cuda" else 1

        def some():
            for _ in range(tokens):
                session.read()

        return [seconds / tokens for seconds in self.samples(some, count)]

    def cached(self, dtype, length, count):
        return self.decode("cached", dtype, length, count)

    def graph(self, dtype, length, count):
        return self.decode("graph", dtype, length, count)

    def graph_half(self, dtype, length, count):
        return self.decode("graph_half", dtype, length, count)

    def logits(self, dtype, length, _):
        return bdh_torch.logits(self.state(dtype), self.config, self.text(length))[-1].float().tolist()

    def last_logits(self, dtype, length, make):
        session = Recurrent(self.state(dtype), self.config, self.text(length - 1), torch.float32)
        session.token.copy_(self.text(length)[-1:])
        return make(session).read().float().tolist()

    def cached_logits(self, dtype, length, _):
        return self.last_logits(dtype, length, lambda session: session)

    def graph_logits(self, dtype, length, _):
        return self.last_logits(dtype, length, Graph)


QUESTIONS = ("forward", "compiled", "recompute", "cached", "graph", "graph_half", "logits", "cached_logits", "graph_logits")


def answer(peer, line):
    question, dtype, length, count = line.split()
    if question not in QUESTIONS or dtype not in DTYPES:
        raise ValueError(f"no such question: {line.strip()}")
    return " ".join(map(str, getattr(peer, question)(dtype, int(length), int(count))))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


def main():
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 is float32 on both sides
    peer = Peer(options.directory, options.device)
    with torch.inference_mode():
        peer.forward("f32", 16, 1)
        where = torch.cuda.get_device_name(peer.device) if peer.device.type == "cuda" else "cpu"
        print(f"torch {torch.__version__}, {where}", flush=True)
        for line in sys.stdin:
            try:
                print(answer(peer, line), flush=True)
            except Exception as error:  # the asker wants a line, whatever happened
                print("error:", " ".join(str(error).split())[:400], flush=True)


if __name__ == "__main__":
    try:
        import torch
        from safetensors.torch import load_file
        from torch.nn import functional

        import bdh_torch
    except ImportError as error:
        print("error:", error, flush=True)
        sys.exit(1)
    DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
    main()
