"""How much faster a text comes with drafts: medians of interleaved pairs, and that the text is the same.

    drafts.py --bdh build/bdh MODEL=TEXT ...     each model directory with a text that it was trained on
"""
import argparse
import json
import pathlib
import statistics
import subprocess


def generated(bdh, model, prompt, options):
    words = [bdh, "generate", model, "--prompt-file", str(prompt), "--json", *options]
    return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)


def measure(arguments, model, text, choice):
    prompt = arguments.folder / "prompt.txt"
    ratios, shares = [], []
    for pair in range(arguments.pairs):
        begin = len(text) * 9 // 10 + pair * 997
        prompt.write_bytes(text[begin : begin + arguments.prompt])
        options = ["-n", str(arguments.tokens), *choice(pair)]
        told = {drafts: generated(arguments.bdh, model, prompt, [*options, *flag]) for drafts, flag in (("off", []), ("on", ["--drafts"]))}
        if told["on"]["tokens"] != told["off"]["tokens"]:
            raise SystemExit(f"{model}: the text differs: {' '.join(options)}")
        rate = {drafts: result["decode_tokens_per_second"] for drafts, result in told.items()}
        ratios.append(rate["on"] / rate["off"])
        shares.append(told["on"]["draft_tokens"] / told["on"]["decode_tokens"])
    return statistics.median(ratios), min(ratios), statistics.median(shares)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bdh", default="build/bdh")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/tmp"))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--prompt", type=int, default=800, help="bytes")
    parser.add_argument("models", nargs="+", metavar="MODEL=TEXT")
    arguments = parser.parse_args()
    choices = {"greedy": lambda pair: ["--greedy"], "seeded": lambda pair: ["--seed", str(pair)]}
    print(f"{'model':24} {'':8} {'times':>6} {'least':>6} {'guessed':>8}")
    for each in arguments.models:
        model, text = each.split("=")
        for name, choice in choices.items():
            ratio, least, share = measure(arguments, model, pathlib.Path(text).read_bytes(), choice)
            print(f"{pathlib.Path(model).name:24} {name:8} {ratio:6.2f} {least:6.2f} {share:8.0%}", flush=True)


if __name__ == "__main__":
    main()
