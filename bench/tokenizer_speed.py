"""How fast bdh encodes beside the `tokenizers` package, each on one thread: a text as one string and as lines, with
tokenizers trained for it. Rounds of both alternate; medians and their ratio are printed.

    python bench/tokenizer_speed.py --text FILE [--bdh build/bdh] [--rounds 5] [--only NAME]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity"))
import tokenizer_parity  # noqa: E402

REPEATS = 3  # within a round


def makers():
    p = tokenizer_parity
    return {
        "BPE, GPT-2": lambda text: p.gpt2(text, 8000),
        "BPE, Llama 3": lambda text: p.split_byte_level(p.LLAMA3, text, 8000),
        "BPE, Llama 2": lambda text: p.llama2(text, 4000),
        "WordPiece, BERT": lambda text: p.bert(text, 8000),
        "Unigram, T5": p.t5,
    }


def seconds_of_package(tokenizer, texts):
    """The better of the package's two ways to encode many texts."""
    ways = []
    for encode in (tokenizer.encode_batch, tokenizer.encode_batch_fast):
        start = time.perf_counter()
        encode(texts)
        ways.append(time.perf_counter() - start)
    return min(ways)


def seconds_of_bdh(bdh, directory, lines):
    command = [bdh, "tokenize", directory, "--lines", lines, "--repeat", str(REPEATS)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["seconds"]


def measure(name, tokenizer, texts, options):
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save(str(pathlib.Path(directory) / "tokenizer.json"))
        lines = pathlib.Path(directory) / "lines.json"
        lines.write_text(json.dumps(texts), encoding="utf-8")
        ours, theirs = [], []
        for _ in range(options.rounds):
            theirs += [seconds_of_package(tokenizer, texts) for _ in range(REPEATS)]
            ours += seconds_of_bdh(options.bdh, directory, str(lines))
    bdh, package = statistics.median(ours), statistics.median(theirs)
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{name:32} bdh {size / bdh:7.1f} MB/s   package {size / package:7.1f} MB/s   {package / bdh:5.1f} times as fast", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--bdh", default="build/bdh")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    text = pathlib.Path(options.text).read_text(encoding="utf-8")
    for name, make in makers().items():
        if options.only in name:
            tokenizer = make(text)
            measure(name + ", one string", tokenizer, [text], options)
            measure(name + ", lines", tokenizer, text.splitlines(), options)


if __name__ == "__main__":
    main()
