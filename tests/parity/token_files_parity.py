"""Files beside a tokenizer.json, ByT5 and characters: what transformers' AutoTokenizer makes of random directories.

    python token_files_parity.py check --bdh PROGRAM [--count N] [--seed S]
"""

import argparse
import json
import pathlib
import random
import subprocess
import tempfile

import transformers
from tokenizers import Tokenizer

POOL = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<pad>", "<mask>", "low", " er", "[X]", "the", "<extra_1>", "ab"]
TEXTS = ["<|im_start|>user<|im_end|>", "x <|im_end|> y", "lower the <mask>  . <pad>", "a<s>b</s> c  <extra_1>d [X]", "<unk> é ab  abé  the <mask>[X]", ""]
BYTE_TEXTS = ["ROMEO: ", "\t<pad> é </s>  x", "<extra_id_0><extra_id_12>a", "日本 <unk>\u3000\n", "", "</s>", "x</s>", "👩‍👩‍👧 é"]
FLAGS = ["lstrip", "rstrip", "single_word", "normalized", "special"]
CONFIG = {"n_layer": 1, "n_embd": 8, "n_head": 2, "mlp_internal_dim_multiplier": 2, "vocab_size": 512, "dropout": 0.0}


def byte_level():
    """A small byte-level BPE: 256 bytes and two merges."""
    from tokenizers import decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<unk>", "<s>", "</s>", *alphabet, "lo", "low"]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [("l", "o"), ("lo", "w")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return json.loads(tokenizer.to_str())


def token(rng, text):
    return {"content": text, **{flag: rng.random() < 0.4 for flag in FLAGS if rng.random() < 0.7}}


def listed(rng, base, size):
    for text in rng.sample([text for text in POOL if text not in base["model"]["vocab"]], 2):
        entry = {"single_word": False, "lstrip": False, "rstrip": False, "special": False, **token(rng, text)}
        entry.setdefault("normalized", not entry["special"])
        entry["id"] = base["model"]["vocab"].get(text, size + len(base["added_tokens"]))
        base["added_tokens"].append(entry)


def roles(rng, names, chance):
    return {name: rng.choice(POOL) if rng.random() < 0.6 else {**token(rng, rng.choice(POOL)), "__type": "AddedToken"} for name in names if rng.random() < chance}


def random_files(rng):
    base = byte_level()
    size = len(base["model"]["vocab"])
    if rng.random() < 0.5:
        listed(rng, base, size)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **roles(rng, ["bos_token", "eos_token", "unk_token", "pad_token", "mask_token", "image_token"], 0.25)}
    if rng.random() < 0.6:
        config["added_tokens_decoder"] = {str(size + i): token(rng, text) for i, text in enumerate(rng.sample(POOL, rng.randrange(1, 5)))}
    if rng.random() < 0.4:
        config[rng.choice(["additional_special_tokens", "extra_special_tokens"])] = rng.sample(POOL, 2)
    files = {"tokenizer.json": base, "tokenizer_config.json": config}
    if rng.random() < 0.4:
        files["added_tokens.json"] = {text: size + i for i, text in enumerate(rng.sample(POOL, 2))}
    if rng.random() < 0.4:
        kept = {name: value if isinstance(value, str) else {k: v for k, v in value.items() if k != "__type"} for name, value in roles(rng, ["bos_token", "eos_token", "cls_token"], 0.5).items()}
        files["special_tokens_map.json"] = kept
    return files


def byt5_files(rng):
    extra = [f"<extra_id_{i}>" for i in range(125)]
    decoder = {str(i): {"content": text, "lstrip": True, "rstrip": True, "normalized": True, "special": True, "single_word": False} for i, text in enumerate(["<pad>", "</s>", "<unk>"])}
    decoder |= {str(259 + i): {"content": text, "lstrip": False, "rstrip": False, "normalized": False, "special": True, "single_word": False} for i, text in enumerate(extra)}
    config = {"tokenizer_class": "ByT5Tokenizer", "extra_ids": 0, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "additional_special_tokens": extra}
    if rng.random() < 0.5:
        return {"tokenizer_config.json": config | {"added_tokens_decoder": decoder}}
    return {"tokenizer_config.json": config, "added_tokens.json": {text: 259 + i for i, text in enumerate(extra)}}


def ours(bdh, directory, *flags):
    run = subprocess.run([bdh, "tokenize", directory, "--lines", directory / "lines.json", *flags], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def compare(bdh, files, texts, seed):
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder)
        for name, content in {**files, "config.json": CONFIG, "lines.json": texts}.items():
            (directory / name).write_text(json.dumps(content))
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        except (TypeError, ValueError, AttributeError):
            return 0  # files that transformers itself does not take
        found, skipped = ours(bdh, directory), ours(bdh, directory, "--skip-special-tokens")
        for text, all_tokens, without in zip(texts, found, skipped):
            byt5 = files["tokenizer_config.json"]["tokenizer_class"] == "ByT5Tokenizer"
            ids = tokenizer(text, add_special_tokens=byt5).input_ids
            expected = (ids, tokenizer.decode(ids, clean_up_tokenization_spaces=False), tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
            got = (all_tokens["tokens"], all_tokens["text"], without["text"])
            assert got == expected, f"seed {seed}: {text!r}: {got}, not {expected}; {files}"
        return len(texts)


def characters(bdh, directory):
    """The tokenizer.json that convert makes of a checkpoint's stoi, in the tokenizers package."""
    import torch

    letters = sorted("\n !'abcdeé日👧")
    sizes = {"n_layer": 1, "n_embd": 8, "n_head": 2, "mlp_internal_dim_multiplier": 2, "vocab_size": len(letters), "dropout": 0.0}
    state = {"encoder": torch.randn(2, 8, 8), "encoder_v": torch.randn(2, 8, 8), "decoder": torch.randn(16, 8), "lm_head": torch.randn(8, len(letters)), "embed.weight": torch.randn(len(letters), 8)}
    torch.save({"model": state, "config": sizes, "stoi": {c: i for i, c in enumerate(letters)}}, directory / "a.pt")
    subprocess.run([bdh, "convert", directory / "a.pt", directory / "m"], check=True, capture_output=True)
    tokenizer = Tokenizer.from_file(str(directory / "m/tokenizer.json"))
    text = "a é\n日 'e👧 d!"
    (directory / "m/lines.json").write_text(json.dumps([text]))
    found = ours(bdh, directory / "m")[0]
    assert found["tokens"] == [letters.index(c) for c in text] == tokenizer.encode(text).ids
    assert found["text"] == tokenizer.decode(found["tokens"], skip_special_tokens=False) == text


def check(arguments):
    transformers.logging.set_verbosity_error()
    seed = random.randrange(2**31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}")
    rng = random.Random(seed)
    texts = sum(compare(arguments.bdh, random_files(rng), TEXTS, seed) for _ in range(arguments.count))
    texts += sum(compare(arguments.bdh, byt5_files(rng), BYTE_TEXTS, seed) for _ in range(4))
    with tempfile.TemporaryDirectory() as folder:
        characters(arguments.bdh, pathlib.Path(folder))
    print(f"token files: {texts} texts as AutoTokenizer, ByT5 and characters too")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["check"])
    parser.add_argument("--bdh", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int)
    check(parser.parse_args())
