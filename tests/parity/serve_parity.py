"""Asks `bdh serve` with other people's clients: openai, lm-eval, prometheus_client, schemathesis; PyTorch says what is right.

    serve_parity.py check --bdh build/bdh
    serve_parity.py check --bdh build/bdh --requests 5000      more of schemathesis
"""
import argparse
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from huggingface_parity import trained_tokenizer  # first: it sets what transformers reads when imported

import openai
import torch
from prometheus_client.parser import text_string_to_metric_families

import bdh_torch
from checks import Checks
from adapter_parity import head_adapter, save_head_adapter
from logits_parity import Command, write_model

TOLERANCE = 1e-4  # of a log probability
FEW = 300  # requests of schemathesis
SIZES = dict(n_layer=3, n_embd=32, dropout=0.0, n_head=4, mlp_internal_dim_multiplier=8)


class Server:
    """One that ends with the block."""

    def __init__(self, command, model, *options):
        words = [str(command.path), "serve", str(model), "--port", "0", "--device", "cpu", *map(str, options)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        for line in self.process.stderr:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.url = f"http://127.0.0.1:{found[1]}"
                return
        sys.exit(f"failed: {' '.join(words)}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.status = self.process.wait(timeout=60)

    def get(self, path):
        with urllib.request.urlopen(self.url + path) as reply:
            return reply.read().decode()


def client_of(server, key="none"):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)


def log_softmax(state, config, tokens):
    return torch.log_softmax(bdh_torch.logits(state, config, torch.tensor(tokens)).double(), dim=-1)


def check_completions(checks, client, state, config, draw):
    prompt = "".join(draw.choice("abcdefgh ,.\n") for _ in range(draw.randint(2, 200)))
    tokens = list(prompt.encode())
    wanted = log_softmax(state, config, tokens)
    echoed = client.completions.create(model="any", prompt=prompt, max_tokens=1, temperature=0, echo=True, logprobs=5)
    logprobs = echoed.choices[0].logprobs
    right = [wanted[i - 1][tokens[i]].item() for i in range(1, len(tokens))]
    off = max(abs(a - b) for a, b in zip(logprobs.token_logprobs[1:-1], right))
    checks.that(logprobs.token_logprobs[0] is None and len(logprobs.tokens) == len(tokens) + 1, "echo: a log probability for each token but the first")
    checks.that(off < TOLERANCE, f"echo: log probabilities of the prompt are PyTorch's, off by {off:.1e}")
    top = sorted(wanted[-1].topk(5).values.tolist(), reverse=True)
    off = max(abs(a - b) for a, b in zip(sorted(logprobs.top_logprobs[-1].values(), reverse=True), top))
    checks.that(off < TOLERANCE, f"the likeliest next tokens are PyTorch's, off by {off:.1e}")

    options = dict(model="any", prompt=prompt, max_tokens=60, seed=draw.randrange(2**31), temperature=1.1, top_p=0.9)
    whole = client.completions.create(**options)
    stream = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
    checks.that(text == whole.choices[0].text and stream[-1].usage.total_tokens == whole.usage.total_tokens, "a stream is the whole text, with its usage")
    several = client.completions.create(**dict(options, n=3, prompt=[prompt, "b"]))
    checks.that([c.index for c in several.choices] == list(range(6)) and several.choices[0].text == text, "n texts for each of several prompts")
    ascii_letters = [letter for letter in text if letter.isascii() and letter.isprintable()]
    if ascii_letters:
        stopped = client.completions.create(**options, stop=[ascii_letters[0]])
        checks.that(stopped.choices[0].text == text[:text.index(ascii_letters[0])] and stopped.choices[0].finish_reason == "stop", "stop")


def check_chat(checks, client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who goes there?"}]
    options = dict(model="any", messages=messages, max_tokens=30, seed=3)
    whole = client.chat.completions.create(**options, logprobs=True, top_logprobs=3)
    chunks = list(client.chat.completions.create(**options, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    content = whole.choices[0].logprobs.content
    checks.that(text == whole.choices[0].message.content and chunks[0].choices[0].delta.role == "assistant", "chat, whole and as a stream")
    checks.that(len(content) == whole.usage.completion_tokens and all(len(one.top_logprobs) == 3 for one in content), "chat: log probabilities")


@torch.no_grad()
def check_embeddings(checks, client, state, config):
    texts = ["a", "the king and the queen", "x" * 300]
    for encoding in ("float", "base64"):
        reply = client.embeddings.create(model="any", input=texts, encoding_format=encoding)
        for text, one in zip(texts, reply.data):
            vector = one.embedding
            if isinstance(vector, str):
                import base64
                vector = torch.frombuffer(bytearray(base64.b64decode(vector)), dtype=torch.float32).tolist()
            x = bdh_torch.forward({**state, "lm_head": torch.eye(config["n_embd"])}, config, torch.tensor(list(text.encode())))
            off = (torch.tensor(vector) - x.mean(dim=0)).abs().max().item()
            checks.that(off < TOLERANCE, f"embedding of {len(text)} bytes, {encoding}: the mean of PyTorch's x, off by {off:.1e}")


def check_errors(checks, server, client):
    def error(kind, **options):
        try:
            client.completions.create(**{"model": "any", "prompt": "a", **options})
        except kind as raised:
            return raised
        except Exception as raised:
            checks.that(False, f"{options}: {kind.__name__}, not {raised!r}")
        return None

    raised = error(openai.BadRequestError, temperature=-1)
    checks.that(raised is not None and raised.param == "temperature" and raised.type == "invalid_request_error", "errors name the parameter")
    checks.that(error(openai.BadRequestError, extra_body={"mirostat": 2}) is not None, "unknown parameters are refused")
    checks.that(error(openai.NotFoundError, extra_body={"state": "none"}) is not None, "states that are not there")
    checks.that([model.object for model in client.models.list()] == ["model"], "the list of models")
    checks.that(client.models.retrieve(client.models.list().data[0].id).owned_by == "bdh", "a model by name")


def check_keys(checks, command, model, folder):
    (folder / "keys").write_text("a-secret-key\n")
    with Server(command, model, "--api-keys", folder / "keys") as server:
        try:
            client_of(server, "another-key").models.list()
            checks.that(False, "a wrong key is refused")
        except openai.AuthenticationError:
            checks.that(True, "a wrong key is refused")
        checks.that(len(client_of(server, "a-secret-key").models.list().data) == 1, "the right key")


def check_adapters(checks, command, folder, model, state, config, generator):
    """Adapters beside their base, each with the log probabilities that PyTorch gives with it in the weights."""
    adapters = {f"adapter{i}": head_adapter(state, parameters, generator, 2 + i) for i, parameters in enumerate((["encoder"], ["decoder", "lm_head"]))}
    words = []
    for name, adapter in adapters.items():
        save_head_adapter(adapter, folder / f"{name}.safetensors")
        words += ["--adapter", f"{name}={folder / name}.safetensors"]
    tokens = list(b"Who goes there? The king.")
    with Server(command, model, *words) as server:
        client = client_of(server)
        checks.that([one.id for one in client.models.list()] == [model.name, *adapters], "adapters are listed")
        for name in (model.name, *adapters):
            added = {key: state[key] + one["scaling"] * (one["lora_A"] @ one["lora_B"]) for key, one in adapters.get(name, {}).items()}
            wanted = log_softmax({**state, **added}, config, tokens)
            said = client.completions.create(model=name, prompt=tokens, max_tokens=0, echo=True, logprobs=0).choices[0].logprobs.token_logprobs
            off = max(abs(said[i] - wanted[i - 1][tokens[i]].item()) for i in range(1, len(tokens)))
            checks.that(off < TOLERANCE, f"{name}: off by {off:.1e}")


def check_metrics(checks, server):
    families = {family.name: family for family in text_string_to_metric_families(server.get("/metrics"))}
    samples = {sample.name for family in families.values() for sample in family.samples}
    checks.that({"bdh_requests_total", "bdh_queue", "bdh_first_token_seconds_bucket", "bdh_density", "bdh_states"} <= samples,
                "prometheus_client reads the metrics")


def check_lm_eval(checks, server, folder, model, state, config, draw):
    """A task over a local file: the log probabilities of its choices, by PyTorch."""
    from lm_eval import simple_evaluate
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    words = "the king queen of and to my lord that not with your".split()
    sentence = lambda count: " ".join(draw.choice(words) for _ in range(count))
    rows = [{"question": sentence(8), "choices": [" " + sentence(3), " " + sentence(2)], "answer": draw.randrange(2)} for _ in range(6)]
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = dict(task="local", dataset_path="json", dataset_kwargs={"data_files": {"test": str(folder / "task.jsonl")}}, test_split="test",
                output_type="multiple_choice", doc_to_text="{{question}}", doc_to_choice="{{choices}}", doc_to_target="answer",
                target_delimiter="", metric_list=[{"metric": "acc"}])
    arguments = dict(model="any", base_url=server.url + "/v1/completions", tokenizer=str(folder / "tokenizer"), tokenizer_backend="huggingface",
                     num_concurrent=2, tokenized_requests=True, max_length=512)
    results = simple_evaluate(model="local-completions", model_args=arguments, tasks=[task], log_samples=True, bootstrap_iters=0)
    worst = 0.0
    for sample in results["samples"]["local"]:
        context = tokenizer.encode(sample["doc"]["question"])
        for choice, response in zip(sample["doc"]["choices"], sample["filtered_resps"]):
            tokens = tokenizer.encode(sample["doc"]["question"] + choice)
            wanted = log_softmax(state, config, tokens)
            right = sum(wanted[i - 1][tokens[i]].item() for i in range(len(context), len(tokens)))
            worst = max(worst, abs(response[0] - right))
    checks.that(worst < TOLERANCE and len(results["samples"]["local"]) == len(rows), f"lm-eval's log probabilities are PyTorch's, off by {worst:.1e}")


def check_description(checks, server, requests, seed):
    """schemathesis draws requests from openapi.json; none may be answered 5xx."""
    per_operation = max(1, requests // 16)
    words = [sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json", "--checks", "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance",
             "--max-examples", str(per_operation), "--phases", "examples,coverage,fuzzing", "--seed", str(seed), "--no-color", "--request-timeout", "60"]
    done = subprocess.run(words, capture_output=True, text=True)
    counted = re.search(r"(\d+) generated", done.stdout)
    print(f"schemathesis: {counted[1] if counted else '?'} requests")
    checks.that(done.returncode == 0, "schemathesis finds nothing" + ("" if done.returncode == 0 else ":\n" + done.stdout[-6000:]))


def check(arguments):
    checks = Checks()
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Command(arguments.bdh, folder)
        config = bdh_torch.config_of(vocab_size=256, **SIZES)
        state = bdh_torch.random_state(config, generator, 0.1)
        write_model(folder / "bytes", config, state)
        with Server(command, folder / "bytes") as server:
            client = client_of(server)
            for _ in range(arguments.models):
                check_completions(checks, client, state, config, draw)
            check_chat(checks, client)
            check_embeddings(checks, client, state, config)
            check_errors(checks, server, client)
            check_metrics(checks, server)
            check_description(checks, server, arguments.requests, arguments.seed)
            checks.that(server.process.poll() is None, "the server is still there")
        checks.that(server.status == 0, "and ends when it is told to")
        check_keys(checks, command, folder / "bytes", folder)
        check_adapters(checks, command, folder, folder / "bytes", state, config, generator)

        tokenizer = trained_tokenizer(folder / "tokenizer")
        config = bdh_torch.config_of(vocab_size=len(tokenizer), **SIZES)
        state = bdh_torch.random_state(config, generator, 0.1)
        write_model(folder / "words", config, state)
        for file in (folder / "tokenizer").iterdir():
            (folder / "words" / file.name).write_bytes(file.read_bytes())
        with Server(command, folder / "words") as server:
            check_lm_eval(checks, server, folder, folder / "words", state, config, draw)
    print(f"serve parity: {checks.done} checks, {f'{len(checks.failed)} failures' if checks.failed else 'ok'}")
    return 1 if checks.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check"])
    parser.add_argument("--bdh", type=pathlib.Path, required=True)
    parser.add_argument("--requests", type=int, default=FEW)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    return check(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
