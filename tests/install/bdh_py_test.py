"""bdh.py, as installed: every function it has, on a model directory. usage: bdh_py_test.py DIR"""

import json
import pathlib
import sys
import tempfile

import bdh

directory = pathlib.Path(sys.argv[1])
model = bdh.Model(directory)
assert "cpu" in bdh.devices()
assert model.config["n_embd"] == model.info.n_embd
assert isinstance(model.metadata, dict)
assert model.memory(64).working > model.memory(1).working
assert model.tokenize("ROMEO:") == list(b"ROMEO:")
assert model.detokenize(b"ROMEO:") == b"ROMEO:"
assert model.piece(65) == b"A"

# Logits: all, last and none; alone and together; from memory.
tokens = model.tokenize("To be, or")
vocab = model.info.vocab_size
session = model.session()
every = session.read(tokens, "all")
assert len(every) == len(tokens) * vocab
other = model.session()
assert other.read(tokens[:-1], "none") is None
last = other.read(tokens[-1:])
assert max(abs(a - b) for a, b in zip(last, every[-vocab:])) < 1e-4
in_memory = bdh.Model(weights=(directory / "model.safetensors").read_bytes(), config=(directory / "config.json").read_text())
both = bdh.read_batch([(in_memory.session(), tokens, "last")])
assert both[0] == model.session().read(tokens)
del in_memory

# Adapters, with the logits that PEFT gave; the base stays.
adapters = pathlib.Path(__file__).resolve().parents[1] / "data" / "adapters"
for case in json.loads((adapters / "expected.json").read_text()):
    base = bdh.Model(adapters / case["model"], dtype="f32")
    plain = base.session().read(case["tokens"])
    merged = base.merged(adapters / case["adapter"])
    assert base.merged((adapters / case["adapter"], 0.0)).session().read(case["tokens"]) == plain != case["last"]
    assert base.session().read(case["tokens"]) == plain
    beside = base.adapted(adapters / case["adapter"])
    together = bdh.read_batch([(one.session(), case["tokens"], "last") for one in (base, beside)])
    assert together[0] == plain
    assert max(abs(a - b) for a, b in zip(together[1], case["last"])) < 1e-5 * max(map(abs, case["last"]))
    del base, beside
    adapted = merged.session().read(case["tokens"])
    assert max(abs(a - b) for a, b in zip(adapted, case["last"])) < 1e-5 * max(map(abs, case["last"]))

# A kept state, a clone, a horizon, a draw.
kept = session.save()
with tempfile.TemporaryDirectory() as folder:
    session.save(f"{folder}/kept")
    other.restore(f"{folder}/kept")
copy = session.clone()
again = model.session()
again.restore(kept)
following = session.read([32])
assert following == copy.read([32]) == other.read([32]) == again.read([32])
assert bdh.sample(following, do_sample=0) == max(range(vocab), key=following.__getitem__)
again.set_horizon([24])
assert again.position == 0
again.set_state_dtype("bf16")
assert again.position == 0 and len(again.read([32])) == vocab

# Text: whole, in two calls, as a stream, stopped, cancelled, and with what a callback raises.
def text_of(settings, prompt="ROMEO:", session=None):
    return (session or model.session()).generate(prompt, seed=5, **settings)


whole = text_of({"max_new_tokens": 30})
assert (whole.prompt_tokens, whole.new_tokens) == (6, 30)
one = model.session()
assert text_of({"max_new_tokens": 12}, session=one).text + text_of({"max_new_tokens": 18}, "", one).text == whole.text
assert "".join(model.session().stream("ROMEO:", seed=5, max_new_tokens=30)) == whole.text
for piece in model.session().stream("ROMEO:", max_new_tokens=100000):
    break
stop = whole.text[10]
stopped = text_of({"max_new_tokens": 30, "stop": [stop]})
assert bdh.FINISHES[stopped.finish] == "stop"
assert stopped.text == whole.text.split(stop)[0]
assert bdh.FINISHES[text_of({"on_token": lambda token, log_probability: log_probability > 0}).finish] == "cancelled"
try:
    text_of({"on_text": lambda text: 1 / 0})
    raise SystemExit("the callback's exception was lost")
except ZeroDivisionError:
    pass

for status, wrong in (("not found", lambda: bdh.Model("/nowhere/at/all")), ("invalid argument", lambda: session.read([vocab])),
                      ("invalid argument", lambda: text_of({"temperature": -1}))):
    try:
        wrong()
        raise SystemExit("a mistake was not refused")
    except bdh.Error as error:
        assert error.status == status, error
