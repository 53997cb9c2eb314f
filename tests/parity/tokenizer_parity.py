"""Tokenizers of every kind, trained by the `tokenizers` package, against bdh: tokens, decoded text with and without
special tokens, and streamed text. Drives `bdh tokenize`.

    python tokenizer_parity.py check --bdh PROGRAM [--count 10000] [--only NAME]
    python tokenizer_parity.py write      rewrites tests/data/tokenizers
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import tokenizer_texts

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "data" / "tokenizers"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
# Text in other scripts, so that vocabularies hold more than English.
FOREIGN = tokenizer_texts.CHOSEN * 3


def bpe_trainer(size, alphabet=(), special=(), **more):
    return trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), special_tokens=list(special), show_progress=False, **more)


def train(tokenizer, corpus, trainer):
    lines = corpus.splitlines(keepends=True)
    tokenizer.train_from_iterator(lines + FOREIGN, trainer)
    return tokenizer


def gpt2(corpus, size=800):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return train(t, corpus, bpe_trainer(size, pre_tokenizers.ByteLevel.alphabet(), ["<|endoftext|>"]))


def gpt2_prefix_space(corpus, size=600):
    t = gpt2(corpus, size)
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return t


def split_byte_level(pattern, corpus, size=800, ignore_merges=True):
    t = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    train(t, corpus, bpe_trainer(size, pre_tokenizers.ByteLevel.alphabet(), special))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B", special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))])])
    return t


def llama3(corpus):
    return split_byte_level(LLAMA3, corpus)


def qwen(corpus):
    t = split_byte_level(QWEN, corpus, ignore_merges=False)
    t.normalizer = normalizers.NFC()
    return t


def o200k(corpus):
    return split_byte_level(O200K, corpus, 1000)


def llama2(corpus, size=900):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.pre_tokenizer = pre_tokenizers.Metaspace("▁", "never")
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    train(t, corpus, bpe_trainer(size, (), special, limit_alphabet=150))
    document = json.loads(t.to_str())
    document["pre_tokenizer"] = None
    document["added_tokens"] = document["added_tokens"][:3]
    t = Tokenizer.from_str(json.dumps(document))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return t


def gemma(corpus):
    t = llama2(corpus)
    t.normalizer = normalizers.Replace(" ", "▁")
    t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    t.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("\n\n\n", normalized=False), AddedToken("▁▁", normalized=False)])
    return t


def metaspace_bpe(scheme, split, corpus):
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split)
    t.decoder = decoders.Metaspace("▁", scheme, split)
    train(t, corpus[: 20000 if split else 4000], bpe_trainer(600, (), ["<unk>", "<s>"]))
    return t


def clip_like(corpus):
    t = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.BPEDecoder("</w>")
    return train(t, corpus, bpe_trainer(900, pre_tokenizers.ByteLevel.alphabet(), ["<unk>"], end_of_word_suffix="</w>"))


def bpe_prefix(corpus):
    t = Tokenizer(models.BPE(unk_token="[UNK]", continuing_subword_prefix="##"))
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    t.decoder = decoders.WordPiece()
    return train(t, corpus, bpe_trainer(700, (), ["[UNK]"], continuing_subword_prefix="##"))


def bert(corpus, size=900, cased=False):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    train(t, corpus, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return t


def bert_cased(corpus):
    t = bert(corpus, cased=True)
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.decoder = decoders.WordPiece(cleanup=False)
    return t


def unigram_trainer(size, special=("<unk>",)):
    return trainers.UnigramTrainer(vocab_size=size, special_tokens=list(special), unk_token="<unk>", show_progress=False)


def t5(corpus):
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    train(t, corpus, unigram_trainer(900, ["<pad>", "</s>", "<unk>"]))
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return t


def albert(corpus):
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    t.decoder = decoders.Metaspace()
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    train(t, corpus, unigram_trainer(700, special))
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.add_special_tokens([AddedToken("[MASK]", lstrip=True)])
    return t


def unigram_bytes(corpus):
    t = t5(corpus[:10000])
    document = json.loads(t.to_str())
    document["model"]["vocab"] += [[f"<0x{byte:02X}>", -12.0] for byte in range(256)]
    document["model"]["byte_fallback"] = True
    document["pre_tokenizer"]["split"] = False
    document["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]}
    return Tokenizer.from_str(json.dumps(document))


def word_level(corpus):
    t = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    t.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Strip()])
    t.pre_tokenizer = pre_tokenizers.Whitespace()
    return train(t, corpus, trainers.WordLevelTrainer(vocab_size=1500, special_tokens=["[UNK]", "[PAD]"], show_progress=False))


def characters(pre_tokenizer=None, normalizer=None, decoder=None, alphabet=3000):
    """Every character a token: what single components do, unobscured."""
    groups = tokenizer_texts.assigned()
    pool = sorted({c for name in sorted(groups) for c in groups[name][:40]} | {chr(c) for c in range(0x600)} | {"▁"})
    vocab = {"<unk>": 0}
    for character in pool[:alphabet]:
        vocab.setdefault(character, len(vocab))
    # Words longer than a character begin with one of these: where a word begins is seen in the tokens.
    t = Tokenizer(models.WordPiece({**{c: i for c, i in vocab.items()}, **{"##" + c: len(vocab) + i for i, c in enumerate(vocab)}}, unk_token="<unk>"))
    if pre_tokenizer:
        t.pre_tokenizer = pre_tokenizer
    if normalizer:
        t.normalizer = normalizer
    if decoder:
        t.decoder = decoder
    return t


def added(corpus):
    t = bert(corpus[:5000], 300, cased=True)
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    t.add_tokens([AddedToken("ing", single_word=False), AddedToken("The", normalized=True), AddedToken("word", single_word=True), AddedToken("  ", normalized=False), AddedToken("é", normalized=True), AddedToken("😀", lstrip=True, rstrip=True), AddedToken("12", rstrip=True), AddedToken("123")])
    t.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<|endoftext|>"), AddedToken("<s>", normalized=True), AddedToken("</s>", single_word=True)])
    return t


def limited(corpus):
    t = bert(corpus[:5000], 300)
    t.enable_truncation(12, stride=2, direction="left")
    t.enable_padding(length=16, pad_id=0, pad_token="[PAD]", direction="left", pad_to_multiple_of=5)
    return t


def limited_right(corpus):
    t = gpt2(corpus[:5000], 300)
    t.enable_truncation(7)
    t.enable_padding(pad_id=1, pad_token="!", pad_to_multiple_of=4)
    return t


SPLITS = {
    "digits": r"\d+", "spaces": r"\s+", "word": r"\w+", "boundary": r"\b", "capital": r"\p{Lu}", "class": r"[a-m&&[^aeiou]]+|[[:punct:]]", "hex": r"\h+",
    "lookbehind": r"(?<=[a-z])(?=[A-Z])", "lines": r"^.|.$", "possessive": r"a++|\p{N}{1,3}+", "negated": r"[^\p{L}\s]", "han": r"\p{Han}|\p{^L}", "upper": r"[[:upper:]][[:lower:]]*",
    "kept": r"[\r\n]|[ ]?[!-/:-~！-／：-～‘-‟　-。]+|\s+$|[一-龥ࠀ-一가-퟿]+|\p{N}+",
}
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]


def shapes():
    """Name and maker of every tokenizer; makers take the corpus."""
    found = {f.__name__: f for f in (gpt2, gpt2_prefix_space, llama3, qwen, o200k, llama2, gemma, clip_like, bpe_prefix, bert, bert_cased, t5, albert, unigram_bytes, word_level, added, limited, limited_right)}
    for scheme in ("always", "never", "first"):
        for split in (True, False):
            found[f"metaspace_{scheme}_{split}"] = lambda corpus, scheme=scheme, split=split: metaspace_bpe(scheme, split, corpus)
    for name, form in (("nfc", normalizers.NFC()), ("nfd", normalizers.NFD()), ("nfkc", normalizers.NFKC()), ("nfkd", normalizers.NFKD()), ("lowercase", normalizers.Lowercase()),
                       ("strip", normalizers.Strip()), ("strip_left", normalizers.Strip(True, False)), ("strip_accents", normalizers.StripAccents()), ("nmt", normalizers.Nmt()), ("bert", normalizers.BertNormalizer()),
                       ("bert_plain", normalizers.BertNormalizer(True, False, False, False)), ("bert_accents", normalizers.BertNormalizer(False, True, True, False)), ("byte_level", normalizers.ByteLevel()),
                       ("replace_regex", normalizers.Replace(Regex(r"[aeiou]*"), "-")), ("replace_empty", normalizers.Replace("a", "")), ("prepend", normalizers.Prepend("xy"))):
        found[f"normalizer_{name}"] = lambda corpus, form=form: characters(pre_tokenizers.WhitespaceSplit(), form)
    for name, form in (("whitespace", pre_tokenizers.Whitespace()), ("whitespace_split", pre_tokenizers.WhitespaceSplit()), ("bert", pre_tokenizers.BertPreTokenizer()), ("digits", pre_tokenizers.Digits()),
                       ("each_digit", pre_tokenizers.Digits(True)), ("delimiter", pre_tokenizers.CharDelimiterSplit("e")), ("fixed_length", pre_tokenizers.FixedLength(3)), ("byte_level", pre_tokenizers.ByteLevel()),
                       ("byte_level_digits", pre_tokenizers.Sequence([pre_tokenizers.ByteLevel(True), pre_tokenizers.Digits(True), pre_tokenizers.Metaspace("Ġ", "always")])),
                       ("sequence", pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits()])), ("metaspace", pre_tokenizers.Metaspace())):
        found[f"pre_tokenizer_{name}"] = lambda corpus, form=form: characters(form)
    for behavior in BEHAVIORS:
        found[f"punctuation_{behavior}"] = lambda corpus, behavior=behavior: characters(pre_tokenizers.Punctuation(behavior))
    for i, (name, pattern) in enumerate(SPLITS.items()):
        for behavior, invert in ((BEHAVIORS[i % 5], False), (BEHAVIORS[(i + 2) % 5], True)):
            found[f"split_{name}_{behavior}_{invert}"] = lambda corpus, p=pattern, b=behavior, v=invert: characters(pre_tokenizers.Split(Regex(p), b, v))
    for name, form in (("ctc", decoders.CTC("a", "|", True)), ("strip", decoders.Strip("e", 1, 0)), ("replace", decoders.Replace(Regex("[aeiou]+"), "_")), ("fused_word_piece", decoders.Sequence([decoders.Fuse(), decoders.WordPiece()])),
                       ("joined_strip", decoders.Sequence([decoders.Fuse(), decoders.Strip("a", 2, 0), decoders.Replace("b", "cc")])), ("bytes_metaspace", decoders.Sequence([decoders.ByteLevel(), decoders.Metaspace("a")])), ("none", None)):
        found[f"decoder_{name}"] = lambda corpus, form=form: characters(pre_tokenizers.WhitespaceSplit(), None, form)
    return found


def ask(bdh, directory, lines, *flags):
    """bdh's answers to a list of texts and lists of tokens."""
    path = pathlib.Path(directory) / "lines.json"
    path.write_text(json.dumps(lines), encoding="utf-8")
    done = subprocess.run([bdh, "tokenize", directory, "--lines", str(path), *flags], capture_output=True)
    if done.returncode != 0:
        return done.stderr.decode()
    return json.loads(done.stdout)


def streamed(tokenizer, tokens):
    """What the package's own stream gives, which holds back an unfinished end, up to the first token it fails at."""
    stream = decoders.DecodeStream(skip_special_tokens=True)
    text = ""
    for token in tokens:
        try:
            text += stream.step(tokenizer, token) or ""
        except Exception:
            break
    return text


def check_broken_text(bdh, tokenizer, seed):
    """Bytes that are not UTF-8 count as what Python makes of them with errors="replace"."""
    source = random.Random(seed)
    pool = [0x20, 0x41, 0x61, 0x80, 0x9F, 0xA0, 0xBF, 0xC2, 0xC3, 0xE0, 0xE2, 0xED, 0xEF, 0xF0, 0xF4, 0xFF]
    wrong = 0
    with tempfile.TemporaryDirectory() as directory:
        (pathlib.Path(directory) / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        for _ in range(100):
            text = bytes(source.choices(pool, k=source.randint(1, 12)))
            done = subprocess.run([bdh, "tokenize", directory, "-", "--json"], input=text, capture_output=True, check=True)
            wrong += json.loads(done.stdout)["tokens"] != tokenizer.encode(text.decode("utf-8", errors="replace")).ids
    print(f"{'DIFFERS in ' + str(wrong) if wrong else 'ok'}: broken text")
    return wrong


def differences(name, bdh, tokenizer, texts, seed):
    """How many answers differ; prints the first few."""
    source = random.Random(seed)
    found = 0

    def compare(what, asked, ours, theirs):
        nonlocal found
        if ours == theirs:
            return
        found += 1
        if found <= 3:
            print(f"  {name}: {what}\n    asked  {asked!r:.300}\n    bdh    {ours!r:.300}\n    wanted {theirs!r:.300}")

    with tempfile.TemporaryDirectory() as directory:
        (pathlib.Path(directory) / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        ours = ask(bdh, directory, texts)
        plain = ask(bdh, directory, texts[::4], "--no-special-tokens", "--skip-special-tokens", "--pieces")
        top = tokenizer.get_vocab_size()
        drawn = [[source.randrange(top + 2) for _ in range(source.randint(0, 12))] for _ in range(len(texts) // 10)]
        loose = ask(bdh, directory, drawn, "--pieces")
        for answers in (ours, plain, loose):
            if isinstance(answers, str):
                print(f"  {name}: {answers}")
                return len(texts)
        for text, answer in zip(texts, ours):
            tokens = tokenizer.encode(text).ids
            compare("tokens", text, answer["tokens"], tokens)
            compare("text", tokens, answer["text"], tokenizer.decode(tokens, skip_special_tokens=False))
        for text, answer in zip(texts[::4], plain):
            tokens = tokenizer.encode(text, add_special_tokens=False).ids
            compare("tokens alone", text, answer["tokens"], tokens)
            compare("text alone", tokens, answer["text"], tokenizer.decode(tokens, skip_special_tokens=True))
            compare("pieces", tokens, "".join(answer["pieces"]), answer["text"])
            compare("start of the text", tokens, answer["text"][: len(streamed(tokenizer, tokens))], streamed(tokenizer, tokens))
        for tokens, answer in zip(drawn, loose):
            compare("random tokens", tokens, answer["text"], tokenizer.decode(tokens, skip_special_tokens=False))
            compare("random pieces", tokens, "".join(answer["pieces"]), answer["text"])
    return found


def corpus_of(path):
    """A text to train on: the file, or what this repository says."""
    root = HERE.parent.parent
    files = [path] if path else sorted(root.rglob("README.md")) + sorted((root / "bdh").rglob("*.h"))
    return "\n".join(pathlib.Path(file).read_text(encoding="utf-8") for file in files)[:60000]


GOLDEN = ["gpt2", "llama3", "llama2", "gemma", "clip_like", "bert", "t5", "albert", "unigram_bytes", "word_level", "added", "limited"]


def golden_cases(tokenizer, seed, corpus):
    """Texts with what the package makes of them."""
    texts = [text for text in tokenizer_texts.texts(110, seed, corpus) if len(text) <= 40]
    cases = []
    for text in texts:
        tokens, plain = tokenizer.encode(text).ids, tokenizer.encode(text, add_special_tokens=False).ids
        cases.append({"text": text, "tokens": tokens, "decoded": tokenizer.decode(tokens, skip_special_tokens=False), "plain": plain,
                      "plain_decoded": tokenizer.decode(plain, skip_special_tokens=True)})
    return cases


def write(options):
    corpus = corpus_of(options.corpus)
    for index, name in enumerate(GOLDEN):
        folder = DATA / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = shapes()[name](corpus[:12000])
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in golden_cases(tokenizer, index, corpus))
        (folder / "cases.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def check_golden():
    """The stored cases against what the package says of the stored tokenizers now."""
    wrong = 0
    for name in GOLDEN:
        tokenizer = Tokenizer.from_file(str(DATA / name / "tokenizer.json"))
        for case in json.loads((DATA / name / "cases.json").read_text(encoding="utf-8")):
            plain = tokenizer.encode(case["text"], add_special_tokens=False).ids
            wrong += tokenizer.encode(case["text"]).ids != case["tokens"] or plain != case["plain"]
            wrong += tokenizer.decode(case["tokens"], skip_special_tokens=False) != case["decoded"]
            wrong += tokenizer.decode(plain, skip_special_tokens=True) != case["plain_decoded"]
    print(f"{'DIFFERS in ' + str(wrong) if wrong else 'ok'}: stored cases")
    return wrong


def check(options):
    wrong = check_golden() > 0
    corpus = corpus_of(options.corpus)
    texts = tokenizer_texts.texts(options.count, options.seed, corpus)
    print(f"{len(texts)} texts, seed {options.seed}", flush=True)
    wrong += check_broken_text(options.bdh, gpt2(corpus), options.seed) > 0
    for name, make in shapes().items():
        if options.only and options.only not in name:
            continue
        count = differences(name, options.bdh, make(corpus), texts, options.seed)
        print(f"{'DIFFERS in ' + str(count) if count else 'ok'}: {name}", flush=True)
        wrong += count > 0
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "write"])
    parser.add_argument("--bdh", default="build/bdh")
    parser.add_argument("--corpus", help="a text to train on; by default what this repository's files say")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--only", default="", help="only tokenizers whose names hold this")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    options = parser.parse_args()
    sys.exit(write(options) if options.command == "write" else check(options))


if __name__ == "__main__":
    main()
