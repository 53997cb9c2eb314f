"""Texts to try tokenizers on: every script, emoji, marks, control characters, spaces, digits, code, long words."""
import random
import unicodedata

CHOSEN = [
    "", " ", "  ", "\n", "\t", "\r\n", "a", "Hello, world!", "  leading and trailing  ", "don't won't I'll we've you're he'd it's",
    "DON'T I'LL", "3.14159 1,000,000 0x1F 1e-9 ٣٤٥ ½ Ⅷ ²³ 〇", "naïve café Ångström", "e\u0301 a\u0323\u0302 n\u0303", "ﬁ ﬂ ﬃ ſ ß ẞ İ ı ŉ",
    "ΑΒΓ αβγς ΣΑΣ", "Привет, мир! ёЁ йЙ", "שָׁלוֹם עולם", "مرحبا بالعالم ﷺ لا", "नमस्ते दुनिया क्षत्रिय", "สวัสดีชาวโลก ำ น้ำ", "你好，世界。「漢字」", "こんにちは、ﾊﾝｶｸ ガギグ ー", "안녕하세요 각 \u1112\u1161\u11ab",
    "👍🏽 👨‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 😀😀😀", "x\u200by\u200cz\u200d\ufeffw\u2060", "a\u00a0b\u2003c\u3000d\u1680e\u180ef\u2028g\u2029h\u0085i",
    "\x00\x01\x07\x1b\x7f\x80\x9f", "tab\tseparated\tvalues\n\n\nlines\r\r\n", "def f(x):\n    return x**2  # 'quoted' \"text\"\n", "for (int i = 0; i < n; ++i) { a[i] += b[i] * 3; }",
    "https://example.org/a?b=c&d=%20#e_f-g", "<s>not special</s> [CLS] [SEP] <|endoftext|> <pad> <unk> [UNK] <0x41>", "____ ---- .... !!!! ???? ''' \"\"\" ``",
    "CamelCaseWordsAndACRONYMs2024", "\u2581already\u2581meta \u2581 \u2581\u2581", "Ġbyte level Ċ Ã©", "##word ##ing # # ##", "a" * 300, "ab" * 500, "é" * 150, "中" * 200,
    " " * 100, "\n" * 50, "🙂" * 60, "1" * 100, "\U0010fffd\ue000", "\ufffd\ufffd", "\u0301\u0301 leading marks", "x" + "\u0301\u0323" * 30, "a b\u0000c", "∑∫≠≤ €£¥₿ ©®™ ←↑→ ■□",
    "I do not know . Is it ? Yes ! No , it 's n't 'm 've 're", "Zürich’s “quotes” — and… dashes–here", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 ＦＵＬＬ ｗｉｄｔｈ", "ǅ ǈ ǋ ß ﬀ Ω K Å",
]


def assigned():
    """The assigned code points of Python's Unicode by the first word of their name: a rough script."""
    groups = {}
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in ("Cs", "Cn", "Co"):
            continue
        name = unicodedata.name(character, "CONTROL")
        groups.setdefault(name.split(" ")[0].split("-")[0], []).append(character)
    return groups


def texts(count, seed, corpus):
    """`count` texts: the chosen ones, then pieces of the corpus and random ones."""
    source = random.Random(seed)
    groups = assigned()
    names = sorted(groups)
    everything = [character for name in names for character in groups[name]]
    spaces = [" ", " ", " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\r\n", "\u2003"]
    emoji = ["👍", "🏽", "👩", "\u200d", "💻", "🇩", "🇪", "❤", "\ufe0f", "😀", "1", "\u20e3", "🏴"]
    marks = [chr(code) for code in range(0x300, 0x370)] + groups.get("COMBINING", [])

    def word(pool, longest=12):
        return "".join(source.choices(pool, k=source.randint(1, longest)))

    def script():
        pool = groups[source.choice(names)]
        return "".join(word(pool) + source.choice(spaces) for _ in range(source.randint(1, 6)))

    def mixed():
        return "".join(word(groups[source.choice(names)], 4) + source.choice(spaces + ["", "", ""]) for _ in range(source.randint(1, 8)))

    def noise():
        return "".join(source.choices(everything, k=source.randint(1, 25)))

    def ascii_noise():
        return "".join(chr(source.randint(0, 127)) for _ in range(source.randint(1, 40)))

    def latin():
        return "".join(chr(source.randint(32, 0x24F)) for _ in range(source.randint(1, 40)))

    def faces():
        return "".join(source.choices(emoji + spaces, k=source.randint(1, 15)))

    def marked():
        return "".join(source.choice("aeiouAEIOUnsçΑα가あ") + word(marks, 3) for _ in range(source.randint(1, 8)))

    def prose():
        start = source.randint(0, len(corpus) - 400)
        return corpus[start : start + source.randint(1, 400)]

    def digits():
        pool = "0123456789.,- "
        return "".join(source.choices(pool, k=source.randint(1, 30)))

    def long_word():
        return word("abcdefghijklmnopqrstuvwxyz'_-", 400)

    kinds = [script, script, script, mixed, mixed, noise, ascii_noise, latin, faces, marked, prose, prose, prose, digits, long_word]
    found = list(CHOSEN)
    while len(found) < count:
        found.append(source.choice(kinds)())
    return found[:count]
