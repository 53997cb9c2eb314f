"""Golden cases for sampling and UTF-8 streams: the filters of Hugging Face's logits processors, those of old written with
PyTorch's own operations, the counter-based draw in Python's integers, and Python's UTF-8 decoder.

    python sampling_parity.py check    compares tests/data/sampling with what PyTorch and Python say now
    python sampling_parity.py write    writes tests/data/sampling anew
"""
import argparse
import json
import pathlib
import random
import sys

import torch
from transformers import EpsilonLogitsWarper, EtaLogitsWarper, MinPLogitsWarper, TypicalLogitsWarper

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "sampling"
MASK = 2**64 - 1
DEFAULTS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "history": []}
# name: the filter of transformers, and whether it is used with a value; after top_p, in this order
WARPERS = {
    "min_p": (MinPLogitsWarper, lambda p: True),
    "typical_p": (TypicalLogitsWarper, lambda p: p < 1),
    "epsilon_cutoff": (EpsilonLogitsWarper, lambda p: 0 < p < 1),
    "eta_cutoff": (EtaLogitsWarper, lambda p: 0 < p < 1),
}


def penalise(scores, history, penalty):
    """RepetitionPenaltyLogitsProcessor."""
    if not history:
        return scores
    seen = torch.tensor(history)
    score = scores[seen]
    return scores.scatter(0, seen, torch.where(score < 0, score * penalty, score / penalty))


def top_k_filter(scores, k):
    """TopKLogitsWarper."""
    if k == 0:
        return scores
    kth = torch.topk(scores, min(k, len(scores))).values[-1]
    return scores.masked_fill(scores < kth, -torch.inf)


def top_p_filter(scores, p):
    """TopPLogitsWarper."""
    if p >= 1.0:
        return scores
    ascending, tokens = torch.sort(scores, descending=False)
    removed = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    removed[-1] = False
    return scores.masked_fill(removed.scatter(0, tokens, removed), -torch.inf)


def distribution(case):
    """The tokens that may be drawn and their probabilities, likeliest first, equal ones by token."""
    scores = penalise(torch.tensor(case["logits"], dtype=torch.float32), case["history"], case["repetition_penalty"])
    scores[case.get("banned", [])] = -torch.inf
    scores = top_p_filter(top_k_filter(scores / case["temperature"], case["top_k"]), case["top_p"])
    for name, (warper, used) in WARPERS.items():
        if name in case and used(case[name]):
            scores = warper(case[name])(None, scores[None])[0]
    probabilities = scores.double().softmax(dim=-1)
    kept = [(token, p) for token, p in enumerate(probabilities.tolist()) if p > 0]
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    return {"tokens": [token for token, _ in kept], "probabilities": [float(f"{p:.9g}") for _, p in kept]}


def mix(z):
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def uniform(seed, step):
    return (mix(mix(seed) ^ step) >> 11) / 2**53


def distribution_cases():
    generator = torch.Generator().manual_seed(1)

    def logits(size, spread=3.0):
        return [round(x, 3) for x in (torch.randn(size, generator=generator) * spread).tolist()]

    tied = [round(x) / 2 for x in logits(24, 1.5)]
    options = [
        {},
        {"temperature": 0.5},
        {"temperature": 2.5, "top_k": 7},
        {"top_k": 1},
        {"top_k": 1000},
        {"top_p": 0.9},
        {"top_p": 0.5, "temperature": 0.8},
        {"top_p": 0.0001},
        {"top_p": 0.999},
        {"top_k": 12, "top_p": 0.8, "temperature": 1.3},
        {"repetition_penalty": 1.7, "history": [3, 3, 3, 5, 0, 20]},
        {"repetition_penalty": 0.6, "history": [1, 2, 1], "top_k": 5},
        {"repetition_penalty": 1.3, "history": list(range(24)), "top_p": 0.7, "top_k": 20, "temperature": 0.7},
    ]
    later = [
        {"min_p": 0.0},
        {"min_p": 0.1},
        {"min_p": 1.0},
        {"min_p": 0.05, "top_p": 0.9, "temperature": 1.4},
        {"typical_p": 0.2},
        {"typical_p": 0.6, "temperature": 2.0},
        {"typical_p": 0.95, "top_k": 9},
        {"typical_p": 0.5, "top_p": 0.8, "min_p": 0.02},
        {"epsilon_cutoff": 0.03},
        {"epsilon_cutoff": 0.9},
        {"epsilon_cutoff": 1.0, "eta_cutoff": 0.0, "typical_p": 1.0},
        {"eta_cutoff": 0.05, "temperature": 3.0},
        {"eta_cutoff": 0.3, "epsilon_cutoff": 0.01, "min_p": 0.01, "typical_p": 0.9, "top_p": 0.95, "temperature": 1.5},
        {"banned": [0, 4, 4, 23]},
        {"banned": list(range(20)), "typical_p": 0.3},
        {"banned": [7, 2], "repetition_penalty": 1.4, "history": [7, 8], "top_k": 6, "top_p": 0.9, "min_p": 0.03},
    ]
    cases = [DEFAULTS | chosen | {"logits": logits(24)} for chosen in options]
    cases += [DEFAULTS | {"top_k": k, "logits": tied} for k in (1, 2, 5, 9)]
    cases += [DEFAULTS | {"top_k": 3, "logits": [2.0] * 10}, DEFAULTS | {"logits": [0.5]}]
    cases += [DEFAULTS | {"top_k": 200, "top_p": 0.97, "logits": logits(400)}]
    cases += [DEFAULTS | chosen | {"logits": logits(24)} for chosen in later]
    cases += [DEFAULTS | {name: 0.4, "logits": tied} for name in WARPERS]
    return [case | distribution(case) for case in cases]


def uniform_cases():
    seeds = [0, 1, 2, 1234567, 2**32, 2**63, MASK]
    steps = [0, 1, 2, 99, 2**40]
    return [{"seed": str(seed), "step": str(step), "u": uniform(seed, step)} for seed in seeds for step in steps]


def utf8_cases():
    chosen = [
        "", "plain", "é", "€", "𝄞", "aéb€c𝄞d", "\ufffd", "\U0010ffff", "\ud7ff\ue000",
    ]
    texts = [text.encode() for text in chosen]
    texts += [bytes([b]) for b in (0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0xF5, 0xFE, 0xFF)]
    texts += [bytes.fromhex(h) for h in (
        "c3", "c328", "e282", "e28228", "e282c3a9", "f09d84", "f09d8441", "f09d", "f0", "e0a0", "e080", "e09f80", "eda080",
        "ed9fbf", "edbfbf", "f08080", "f0908080", "f08f8080", "f48fbfbf", "f4908080", "c080", "c3c3a9", "e2e282ac",
        "f0f09d849e", "80c3a980", "fffec3a9ff", "e282ac", "e282ace2", "61f09d84c3a962", "f5808080")]
    source = random.Random(2)
    pool = [0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC2, 0xC3, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xFF]
    texts += [bytes(source.choices(pool, k=source.randint(3, 12))) for _ in range(60)]
    return [{"bytes": text.hex(), "text": text.decode("utf-8", errors="replace")} for text in texts]


def goldens():
    return {"distributions": distribution_cases(), "uniforms": uniform_cases(), "utf8": utf8_cases()}


def close(a, b):
    """Equal, numbers up to the rounding between PyTorch versions."""
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    return a == b


def path(name):
    return DATA / f"{name}.json"


def write():
    DATA.mkdir(parents=True, exist_ok=True)
    for name, cases in goldens().items():
        lines = ",\n".join(json.dumps(case) for case in cases)
        path(name).write_text(f"[\n{lines}\n]\n")


def check():
    wrong = 0
    for name, cases in goldens().items():
        stored = json.loads(path(name).read_text())
        wrong += not close(stored, cases)
        print(f"{'ok' if close(stored, cases) else 'DIFFERS'}: {path(name).name}, {len(cases)} cases")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "write"])
    sys.exit(write() if parser.parse_args().command == "write" else check())


if __name__ == "__main__":
    main()
