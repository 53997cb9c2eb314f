"""Regular expressions of tokenizer.json: what bdh matches, against what the tokenizers package matches, on drawn patterns and texts.

    python regex_parity.py check --tests build/bdh_tests [--pairs 20000 --seed N] [--sets]
    python regex_parity.py write                      tests/data/tokenizers/regex.json, which bdh_tests reads

--sets: every named set as well, over all characters that Unicode 14 has.

A pattern that bdh refuses by name is counted; one that it takes must cut every text as the package does.
"""
import argparse
import collections
import json
import os
import pathlib
import pickle
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
TEXTS = 10  # for each pattern
AT_ONCE = 5_000  # patterns in one process
MEMORY = 4 << 30  # bytes that the package may take

LETTERS = "abcdefstxyzABSTZ"
OTHERS = "ßſKéÉñйЖαΩσςﬁŉǅⅫ½²³٣३_-'’\"#&^][}{)(|.,:;!?/\\ \t\n\r\v\f\x0b\x1c\x85\xa0\u2028\u3000\u200d\u0301\u0345ⓐⒶ漢字かカ한😀👍🏽🇩🇪👨👩\ufe0fकषा\u094d\x00\x7f\x01"
MOVED = {0x1171E}  # its category is another one since Unicode 14
SCRIPTS = "Latin Greek Cyrillic Han Hiragana Katakana Hangul Arabic Hebrew Thai Devanagari Common Inherited Latn Grek Hani".split()
ALL_SCRIPTS = (
    "Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo Brahmi Braille "
    "Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot "
    "Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian "
    "Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana "
    "Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kayah_Li Kharoshthi "
    "Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam "
    "Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi "
    "Mongolian Mro Multani Myanmar Nabataean Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian "
    "Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya "
    "Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian Siddham "
    "SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri "
    "Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi "
    "Zanabazar_Square Qaac Qaai Zyyy Zinh Cyrl Hira Kana Hang ").split()
CATEGORIES = "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co".split()
PROPERTIES = ("Letter Uppercase_Letter lowercase-letter Mark Number Punctuation Symbol Separator Other Alpha Alnum Punct Word Space Upper Lower Digit XDigit "
              "Blank Cntrl Graph Print Any ASCII Assigned Emoji Emoji_Presentation Emoji_Modifier Extended_Pictographic Alphabetic Uppercase "
              "Lowercase White_Space ID_Start ID_Continue Ideographic Dash Hex_Digit Math Quotation_Mark Diacritic XPosixPunct PosixPunct "
              "InBasic_Latin In_Cyrillic In_CJK_Unified_Ideographs InLatin_1_Supplement Unified_Ideograph Nonsense").split()
POSIX = "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit".split()


def some_characters(draw):
    kind = draw.random()
    if kind < 0.55:
        return draw.choice(LETTERS)
    if kind < 0.92:
        return draw.choice(OTHERS)
    while True:
        code = draw.choice((draw.randrange(0x80, 0x3000), draw.randrange(0x1F300, 0x1FA00), draw.randrange(0xA000, 0x10000)))
        if not 0xD800 <= code < 0xE000 and unicodedata.category(chr(code)) != "Cn" and code not in MOVED:
            return chr(code)


class Pattern:
    """One drawn pattern; `literals` are characters that a text should have."""

    def __init__(self, draw):
        self.draw = draw
        self.literals = []
        self.groups = 0
        self.names = []
        self.budget = draw.choice((3, 6, 10, 18))
        self.text = ("" if draw.random() < 0.85 else draw.choice(("(?i)", "(?m)", "(?x)", "(?im)", "(?ix)"))) + self.either(0)

    def either(self, depth):
        branches = [self.sequence(depth)]
        while self.draw.random() < 0.2:
            branches.append(self.sequence(depth))
        return "|".join(branches)

    def sequence(self, depth):
        parts = []
        for _ in range(self.draw.choice((0, 1, 1, 1, 2, 2, 3, 4))):
            if self.budget <= 0:
                break
            self.budget -= 1
            parts.append(self.atom(depth) + self.quantifier())
        return "".join(parts)

    def quantifier(self):
        r = self.draw.random()
        if r < 0.6:
            return ""
        q = self.draw.choice(("*", "+", "?", "*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "{3,1}", "{,}", "{x}", "{0}", "{1"))
        if self.draw.random() < 0.25:
            q += self.draw.choice(("?", "+"))
        if self.draw.random() < 0.06:
            q += self.draw.choice(("*", "+", "?", "{2}"))
        return q

    def literal(self, in_class=False):
        c = some_characters(self.draw)
        self.literals.append(c)
        code = ord(c)
        r = self.draw.random()
        if r < 0.04 and code < 0x10000:
            return "\\u%04x" % code
        if r < 0.08:
            return "\\x{%x}" % code
        if r < 0.11 and code < 0x80:
            return "\\x%02x" % code
        if r < 0.13 and code < 0x80:
            return "\\%03o" % code
        if r < 0.16:
            self.literals[-1] = {"a": "\a", "e": "\x1b", "t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}[letter := self.draw.choice("aetnrfv")]
            return "\\" + letter
        if r < 0.18:
            self.literals[-1] = self.draw.choice("\x01\x02\x1a\x7f")
            return {"\x01": "\\cA", "\x02": "\\C-b", "\x1a": "\\cz", "\x7f": "\\c?"}[self.literals[-1]]
        special = "\\^$.|?*+()[]{}" if not in_class else "\\]^-[&"
        return "\\" + c if c in special or (r < 0.2 and not c.isalnum()) else c

    def named_set(self):
        kind = self.draw.random()
        if kind < 0.5:
            return "\\" + self.draw.choice("wWdDsShHwsd")
        name = self.draw.choice(self.draw.choice((CATEGORIES, SCRIPTS, PROPERTIES)))
        return "\\%s{%s%s}" % (self.draw.choice("ppP"), self.draw.choice(("", "", "", "^")), self.draw.choice((name, name, name.lower(), name.upper())))

    def char_class(self, depth=0):
        out = "[" + self.draw.choice(("", "", "", "^"))
        for _ in range(self.draw.randint(1, 4)):
            kind = self.draw.random()
            if kind < 0.4:
                out += self.literal(True)
            elif kind < 0.6:
                a, b = sorted((self.draw.choice("abcfimszABSZ059 !~éÿа"), self.draw.choice("abcfimszABSZ059 !~éÿя")))
                self.literals += [a, b]
                out += a + "-" + b
            elif kind < 0.8:
                out += self.named_set()
            elif kind < 0.9:
                out += "[:%s%s:]" % (self.draw.choice(("", "", "^")), self.draw.choice(POSIX))
            elif kind < 0.94 and depth < 2:
                out += self.char_class(depth + 1)
            elif kind < 0.97:
                out += self.draw.choice(("-", "\\b", "\\R", "\\X", "\\N", "]", "--", "\\8", "\\i", "#", " "))
            elif depth < 2:
                out += "&&" + self.draw.choice(("", self.char_class(depth + 1), "^", "a-z"))
        return out + "]"

    def atom(self, depth):
        kind = self.draw.random()
        if kind < 0.36:
            return self.literal()
        if kind < 0.40:
            return self.draw.choice(("ss", "fi", "st", "ff", "'s", "re", "ll", "sS", "a b", "# x\n", "#", " "))
        if kind < 0.50:
            return self.named_set()
        if kind < 0.64:
            return self.char_class()
        if kind < 0.68:
            return self.draw.choice((".", "\\N", "\\O", "\\R", "."))
        if kind < 0.74:
            return self.draw.choice(("^", "$", "\\A", "\\z", "\\Z", "\\b", "\\B", "\\G", "\\K", "\\b"))
        if kind < 0.76:
            return self.draw.choice(("\\y", "\\X", "(?~ab)", "(?(1)a|b)", "\\M-a", "(?#x)", "(?#a\\)b)", "\\Q", "\\i", "\\8", "\\12", "\\p", "\\x", "\\k<1+0>", "(*FAIL)"))
        if kind < 0.80 and (self.groups or self.names):
            return self.reference()
        if depth > 3:
            return self.literal()
        return self.group(depth + 1)

    def reference(self):
        if self.names:
            return "\\%s<%s>" % (self.draw.choice("kkg"), self.draw.choice(self.names))
        n = self.draw.randint(1, self.groups)
        return self.draw.choice(("\\%d" % n, "\\k<%d>" % n, "\\k<-%d>" % n, "\\k'%d'" % n, "\\g<%d>" % n, "\\%d" % (n + 1)))

    def group(self, depth):
        kind = self.draw.random()
        if kind < 0.3:
            self.groups += 1
            return "(" + self.either(depth) + ")"
        if kind < 0.55:
            return "(?:" + self.either(depth) + ")"
        if kind < 0.6:
            name = self.draw.choice(("n", "m", "word", "é"))
            out = "(?<%s>%s)" % (name, self.either(depth))
            self.names.append(name)
            return out
        if kind < 0.66:
            return "(?>" + self.either(depth) + ")"
        if kind < 0.72:
            return "(?=" + self.either(depth) + ")"
        if kind < 0.78:
            return "(?!" + self.either(depth) + ")"
        if kind < 0.83:
            return "(?<=" + self.either(depth) + ")"
        if kind < 0.88:
            return "(?<!" + self.either(depth) + ")"
        if kind < 0.96:
            return "(?%s:%s)" % (self.draw.choice(("i", "m", "x", "-i", "i-m", "mx", "s", "")), self.either(depth))
        return "(?%s)" % self.draw.choice(("i", "m", "x", "-i", "-"))


FIELD = [  # of tokenizers that people use
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[\p{P}\p{S}]|[\r\n]|\s?\p{L}+|\s?\p{P}+|[一-龥ࠀ-一가-퟿]+|\p{N}",
    r"\w+|[^\w\s]+", r"[^\w\s]+|\w+", r"\p{Punct}+", r"\d{1,3}(?=(?:\d{3})*\b)", r"(?x) [a-z]+ # words", r"\p{Emoji}|\p{So}", r"[[:graph:]]+|[[:print:]]",
    r"(?<![a-z])[A-Z]+(?![a-z])|[A-Z]?[a-z]+", r"\b\w+\b", r"(?:\r\n|\R)", r"(?m).+?\z", r"\X", r"\y", r" ?(?:[^\s[:punct:]])+", r"\p{Han}|\p{Hiragana}+",
]


EVERY_KIND = [  # one of each thing that the rewriting knows
    r"[\w]+", r"\w+", r"[\W]", r"\W", r"[[:word:]]+", r"\p{Word}+", r"\bx|²\b", r"\B.", r"[[:graph:]]", r"[[:print:]]+", r"[[:^alpha:]]", r"[[:punct:]]+",
    r"\p{Punct}+", r"\p{^Lu}", r"\P{^Nd}+", r"\p{uppercase-letter}", r"\p{Greek}+", r"[\p{Han}\p{Katakana}]", r"\p{InCyrillic}", r"\p{In_Basic_Latin}+",
    r"\p{Emoji_Presentation}", r"\p{Extended_Pictographic}", r"\p{ID_Start}\p{ID_Continue}*", r"\p{Hex_Digit}+", r"\h+", r"\H", r"\d", r"[\D]", r"\s", r"[\S\n]",
    r"[a-c&&[^b]]+", r"[^a&&b]", r"[a[bc]d]+", r"[a[^a-y]]", r"[]a]", r"[^]a]", r"[-a]+", r"[a-]+", r"[\]\-]", r"[a\b]", r"[\R\X]", r"[^\w\s]",
    r"\x41", r"\x{e9}", r"\u00e9", r"\101", r"\0", r"\cA", r"\C-b", r"\c?", r"\a|\e|\t|\f|\v", r"\i", r"\QaE", r"\pL", r"a{", r"a{x}", r"a{,}",
    r"a{2}", r"a{2,}?", r"a{,2}", r"a{1,2}+", r"a{3,1}a?", r"a{2}?", r"a*?b", r"a++b|a", r"a?+a", r"a**", r"(?:a+?)*b",
    r".", r"(?m).", r"(?m:.)\n", r"\N+", r"\O", r"\R", r"^a|b$", r"\Aa|b\z|c\Z", r"\Ga", r"a\Kb", r"(?#no)a", r"(?#a\)b)c", r"(?x) a b # c", "(?x) a [ ] b # c\n d",
    r"(?i)a|É", r"(?i)ss", r"(?i)k[a-z]", r"(?i)[^a-z]", r"(?i)\p{Lu}", r"(?i)[\p{L}]+", r"(?i)[\w']", r"a(?i)b|c", r"(?i:a)b", r"(?-i:a)",
    r"\X", r"\y", r"(a)(b)\2", r"(a)\k<1>", r"(a)(b)\k<-2>", r"(?<n>a)(b)\k<n>", r"(b)(?<n>a)(?<m>c)\g<n>", r"(?<p>\((?:[^()]|\g<p>)*\))", r"(a)\g<1>", r"(?:(a)|b)*\1",
    r"(?>a+)b|a", r"(?=a)\w+", r"(?!a)\w", r"(?<=a|bc)d", r"(?<!a)b", r"|a", r"(?:)", r"()", r"",
]


def drawn_pattern(draw):
    if draw.random() < 0.05:
        return draw.choice(FIELD), list("'sTLl 12\n\n aé!漢\r")
    pattern = Pattern(draw)
    return pattern.text, pattern.literals


def drawn_text(draw, literals):
    characters = []
    for _ in range(draw.choice((0, 1, 3, 6, 10, 16, 24))):
        r = draw.random()
        c = draw.choice(literals) if literals and r < 0.6 else some_characters(draw)
        if r < 0.1:
            c = draw.choice((c.upper(), c.lower(), c.casefold()))
        characters.append(c)
        if draw.random() < 0.2:
            characters.append(c)
    return "".join(characters)


def package(pattern, texts):
    """For each text the pieces between and in the matches; None: the package refuses the pattern."""
    try:
        isolated, removed = Split(Regex(pattern), "isolated"), Split(Regex(pattern), "removed")
    except Exception:
        return None
    answers = []
    for text in texts:
        try:
            answers.append(([p for p, _ in isolated.pre_tokenize_str(text)], [p for p, _ in removed.pre_tokenize_str(text)]))
        except BaseException:  # a limit of Oniguruma's
            answers.append(None)
    return answers


def in_child(questions, seconds):
    """The package's answers from a process of their own, which may die of memory or time: then None. It reports on standard error each
    text beyond Oniguruma's limits."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(seconds)
        with os.fdopen(write, "wb") as file:
            pickle.dump([package(*question) for question in questions], file)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    return pickle.loads(data) if os.waitpid(child, 0)[1] == 0 else None


def packages(questions):
    """The package's answer to each question; "beyond": it needs too much memory or time."""
    for start in range(0, len(questions), 100):
        some = questions[start:start + 100]
        answers = in_child(some, 20)
        if answers is None:
            answers = [(in_child([question], 2) or ["beyond"])[0] for question in some]
        yield from answers


def pieces(text, ends):
    data = text.encode()
    isolated, removed, at = [], [], 0
    for begin, end in zip(ends[::2], ends[1::2]):
        for piece, match in ((data[at:begin], False), (data[begin:end], True)):
            if piece:
                isolated.append(piece.decode())
                if not match:
                    removed.append(piece.decode())
        at = end
    if data[at:]:
        isolated.append(data[at:].decode())
        removed.append(data[at:].decode())
    return isolated, removed


def asked(tests, questions):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "questions.jsonl"), "w") as file:
            for pattern, texts in questions:
                file.write(json.dumps({"pattern": pattern, "texts": texts}, ensure_ascii=False) + "\n")
        subprocess.run([tests, "--test-case=parity: regular expressions"], env=dict(os.environ, BDH_PARITY_REGEX=folder), check=True, stdout=subprocess.DEVNULL)
        return [json.loads(line) for line in open(os.path.join(folder, "answers.jsonl"), encoding="utf-8").read().split("\n")[:-1]]


def compared(question, answer, right, count):
    """The pairs of one pattern that differ."""
    pattern, texts = question
    if right == "beyond":
        count["beyond the package's limits"] += 1
        return []
    if isinstance(answer, dict):
        if right is None:
            count["refused by both"] += 1
        elif "cannot be matched" in answer["message"]:
            count["beyond bdh's limits"] += 1
        elif answer["kind"] == "unsupported":
            count["refused by bdh, by name"] += 1
            count[answer["message"].rsplit(" at byte ", 1)[0].rsplit("' has ", 1)[-1].rsplit("supports: ", 1)[-1]] += 1
        else:
            return [(pattern, None, "called invalid", answer["message"])]
        return []
    if right is None:
        count["taken by bdh only"] += 1
        return []
    differ = []
    for text, ends, expected in zip(texts, answer, right):
        if expected is None:
            count["texts beyond the package's limits"] += 1
            continue
        count["pairs"] += 1
        if pieces(text, ends) != expected:
            differ.append((pattern, text, pieces(text, ends)[0], expected[0]))
    return differ


def check(args):
    draw = random.Random(args.seed)
    count, differ = collections.Counter(), check_sets(args.tests) if args.sets else []
    while count["pairs"] < args.pairs and len(differ) < 200:
        questions = []
        for _ in range(min(AT_ONCE, max(args.pairs // TEXTS, 100))):
            pattern, literals = drawn_pattern(draw)
            questions.append((pattern, [drawn_text(draw, literals) for _ in range(TEXTS)]))
        for question, answer, right in zip(questions, asked(args.tests, questions), packages(questions)):
            differ += compared(question, answer, right, count)
    for pattern, text, ours, theirs in differ[:args.show]:
        print(f"{pattern!r} on {text!r}:\n  bdh     {ours}\n  package {theirs}")
    reasons = [f"{n} {what}" for what, n in count.most_common() if what != "pairs"]
    print(f"regular expressions: {count['pairs']} pairs, seed {args.seed}; {len(differ)} differ; patterns: {', '.join(reasons[:args.show])}")
    return 1 if differ else 0


def check_sets(tests):
    """Every named set over every character, between brackets and outside; the patterns that differ."""
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c not in MOVED and unicodedata.category(chr(c)) not in ("Cn", "Co")]
    text = "".join(map(chr, codes))
    blocks = re.findall(r'\{"(\w+)", 0x', (pathlib.Path(__file__).parents[2] / "bdh/text/tokenizers/unicode_blocks.cpp").read_text())
    names = CATEGORIES + PROPERTIES + ALL_SCRIPTS + ["in" + block for block in blocks]
    patterns = [r"\p{%s}+" % n for n in names] + ["[[:%s:]]+" % n for n in POSIX] + ["[[:^%s:]]+" % n for n in POSIX]
    patterns += [form % c for c in "wWdDsShH" for form in (r"\%s+", r"[\%s]+", r"[^\%s]+")] + [r"\b"]
    questions = [(pattern, [text]) for pattern in patterns]
    count, differ = collections.Counter(), []
    for question, answer, right in zip(questions, asked(tests, questions), packages(questions)):
        differ += [(p, "every character", f"{len(ours)} pieces", f"{len(theirs)} pieces") for p, _, ours, theirs in compared(question, answer, right, count)]
    print(f"named sets: {count['pairs'] - len(differ)} agree over {len(codes)} characters, {count['refused by bdh, by name']} refused by name, {len(differ)} differ")
    return differ


def write():
    draw = random.Random(3)
    cases = []
    for pattern in FIELD + EVERY_KIND:
        letters = [c for c in pattern if c.isalnum()] + list("aabbcd.()²éßſK sS\n\x01é漢\U0001f600")
        texts = [drawn_text(draw, letters) for _ in range(4)]
        cases.append({"pattern": pattern, "texts": texts, "pieces": [isolated for isolated, _ in package(pattern, texts)]})
    (DATA / "tokenizers" / "regex.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["check", "write"])
    parser.add_argument("--tests")
    parser.add_argument("--sets", action="store_true")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=12)
    args = parser.parse_args()
    if args.what == "write":
        return write()
    return check(args)


if __name__ == "__main__":
    sys.exit(main())
