"""Compares `bdh generate` with transformers' generate for random generation_config.json files: the same greedy tokens.

    generation_parity.py check --bdh build/bdh [--configs 300]

Random models and files differ from run to run; --seed repeats one. Nothing is fetched: the hub is switched off.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
MODULES = tempfile.TemporaryDirectory()  # where transformers puts copies of our Python
os.environ["HF_MODULES_CACHE"] = MODULES.name

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, logging

from logits_parity import Command, make_model, write_model

logging.set_verbosity_error()
logging.disable_progress_bar()
warnings.filterwarnings("ignore", message="Unfeasible length constraints")
VOCAB, TOKENS = 256, 100
TIE = 1e-4  # of the largest logit: closer ones may change places


def tokens(draw, most):
    return [draw.randrange(VOCAB) for _ in range(draw.randint(1, most))]


def option_makers(draw, likely, prompt):
    """For each key a value that does something: `likely` holds tokens that the model likes to write."""
    def some(most):
        return [draw.choice(likely) if draw.random() < 0.7 else draw.randrange(VOCAB) for _ in range(draw.randint(1, most))]

    def word():
        start = draw.randrange(len(likely))
        return likely[start:start + draw.randint(1, 3)] if draw.random() < 0.7 else some(3)

    return {
        "no_repeat_ngram_size": lambda: draw.choice((0, 1, 2, 2, 3, 4, 7, 1000)),
        "suppress_tokens": lambda: some(20) + draw.choice(([], [VOCAB], [-1])),
        "begin_suppress_tokens": lambda: some(20),
        "bad_words_ids": lambda: [word() for _ in range(draw.randint(1, 12))],
        "min_new_tokens": lambda: draw.choice((0, 5, 60, 300)),
        "min_length": lambda: len(prompt) + draw.choice((-2, 5, 60, 300)) if len(prompt) > 2 else 5,
        "min_p": lambda: draw.choice((0.0, 0.3, 1.0)),
        "typical_p": lambda: draw.choice((0.2, 0.9, 1.0)),
        "temperature": lambda: draw.choice((0.2, 0.9, 1.7)),
        "top_k": lambda: draw.choice((0, 1, 50)),
        "top_p": lambda: draw.choice((0.5, 1.0)),
        "epsilon_cutoff": lambda: draw.choice((0.0, 0.01)),
        "eta_cutoff": lambda: draw.choice((0.0, 0.01)),
        "repetition_penalty": lambda: draw.choice((1.0, 1.2, 0.9, 1.7)),
        "eos_token_id": lambda: draw.choice((draw.choice(likely), some(3))),
        "num_return_sequences": lambda: 1,
        "num_beams": lambda: 1,
        "use_cache": lambda: True,
    }


def random_config(draw, likely, prompt):
    makers = option_makers(draw, likely, prompt)
    config = {name: make() for name, make in makers.items() if draw.random() < 0.3}
    config |= {name: None for name in makers if name not in config and draw.random() < 0.05}
    config |= draw.choice(({}, {"do_sample": False}, {"do_sample": None}, {"do_sample": True, "top_k": 1},
                           {"do_sample": True, "min_p": 1.0, "top_k": 0}))
    length = draw.choice(("none", "max_length", "max_new_tokens", "both"))
    if length in ("max_length", "both"):
        config["max_length"] = len(prompt) + TOKENS
    if length in ("max_new_tokens", "both"):
        config["max_new_tokens"] = TOKENS if length == "max_new_tokens" else TOKENS - 7
    if draw.random() < 0.5:
        config["transformers_version"] = "5.0.0"
    if set(config) - {"seed"} == {"max_new_tokens", "temperature", "top_k"}:
        config["do_sample"] = False
    if config.get("do_sample") is not True and draw.random() < 0.05:  # until nothing is left, and on
        config |= {"suppress_tokens": list(range(8, VOCAB)), "no_repeat_ngram_size": draw.choice((1, 2))}
    return config, length == "none"


@torch.no_grad()
def of_transformers(model, directory, prompt, count):
    """The tokens, and the scores that each was taken by."""
    model.generation_config = GenerationConfig.from_pretrained(directory)
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, output_scores=True, return_dict_in_generate=True, **count)
    return out.sequences[0, len(prompt):].tolist(), out.scores


def of_bdh(command, directory, prompt, count, folder):
    (folder / "prompt").write_bytes(bytes(prompt))
    flags = ("-n", count["max_new_tokens"]) if count else ()
    return json.loads(command.run("generate", directory, "--prompt-file", folder / "prompt", "--json", *flags))["tokens"]


def only_a_tie(got, want, scores):
    """Whether the first token that differs was as likely up to rounding."""
    if len(got) != len(want) and got == want[:len(got)] or got[:len(want)] == want:
        return False
    at = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b)
    row = scores[at][0]
    return bool((row[want[at]] - row[got[at]]).abs() <= TIE * row[row.isfinite()].abs().max())


def check_refused(command, directory):
    """Neither has it: bdh, and `validate` too, by name."""
    failed = 0
    for config in ({"num_beams": 4}, {"guidance_scale": 1.5}, {"force_words_ids": [[1]]}, {"penalty_alpha": 0.5, "top_k": 4},
                   {"num_return_sequences": 2}, {"bad_words_ids": [[VOCAB]]}, {"max_length": 5}):
        (directory / "generation_config.json").write_text(json.dumps(config))
        name = next(iter(config))
        for words in (("generate", directory, "--prompt", "Hello", "-n", "3"), ("validate", directory)):
            if name == "max_length" and words[0] == "validate":
                continue
            given = [str(word) for word in words if name != "max_length" or word not in ("-n", "3")]
            done = subprocess.run([command.path, *given], capture_output=True, text=True)
            if done.returncode != 1 or name not in done.stdout + done.stderr:
                failed += 1
                print(f"FAILED: {words[0]} with {config}: {done.returncode} {done.stderr}")
    return failed


def check(arguments):
    torch.set_num_threads(1)
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed)
    failed = ties = written = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Command(arguments.bdh, folder)
        plain, directory = folder / "plain", folder / "model"
        config, state = make_model(2, 32, 2, 8, VOCAB, 0.1, generator, True)
        write_model(plain, config, state)
        command.run("convert", plain, directory, "--huggingface")
        model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True, dtype=torch.float32).eval()
        for index in range(arguments.configs):
            prompt = tokens(draw, draw.choice((1, 8, 60)))
            (directory / "generation_config.json").write_text("{}")
            likely = of_bdh(command, directory, prompt, {"max_new_tokens": 40}, folder)
            settings, free = random_config(draw, likely, prompt)
            count = {"max_new_tokens": TOKENS} if free else {}
            (directory / "generation_config.json").write_text(json.dumps(settings))
            want, scores = of_transformers(model, directory, prompt, count)
            got = of_bdh(command, directory, prompt, count, folder)
            written += len(want)
            if got != want:
                tie = only_a_tie(got, want, scores)
                ties, failed = ties + tie, failed + (not tie)
                print(f"{'a tie' if tie else 'FAILED'}: config {index}: {json.dumps(settings)}\n prompt {prompt}\n bdh {got}\n transformers {want}")
        failed += check_refused(command, directory)
    print(f"generation parity: {arguments.configs} files, {written} tokens, {ties} ties, {f'{failed} failures' if failed else 'ok'}")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    checking = modes.add_parser("check")
    checking.add_argument("--bdh", type=pathlib.Path, required=True)
    checking.add_argument("--configs", type=int, default=30)
    checking.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    return check(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
