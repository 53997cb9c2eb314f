"""Compares with Hugging Face: saved directories in transformers, its own saves in bdh, model cards in huggingface_hub.

    huggingface_parity.py check --bdh build/bdh --build build --demo DIRECTORY

Random models differ from run to run; --seed repeats one. Nothing is fetched: the hub is switched off.
"""
import argparse
import contextlib
import copy
import io
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import textwrap
import traceback
from unittest import mock

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
MODULES = tempfile.TemporaryDirectory()  # where transformers puts copies of our Python
os.environ["HF_MODULES_CACHE"] = MODULES.name

import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, logging

import bdh_torch
from checks import Checks
from logits_parity import Command, random_model, relative_difference, too_far, write_model

logging.set_verbosity_error()
torch.set_num_threads(1)  # small models: threads wait for each other longer than they work
TOLERANCE = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}  # of the largest logit: PyTorch's sums have the dtype, ours are float32's
SHORT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

HOSTILE = ["---", "a: b", "x\n---\n# y", "\"quoted\" and \\", "no", "1.0", "~", "- a", "#", "{a: [b", "|", "\u2028\u0085\x7f\x01",
           "\ufeffя 🦉 \U0001fffe", "<script>", "{{ content }}", "%", "@x", "`", "!!python/object:os.system"]


def loaded(directory, kind=AutoModelForCausalLM, **options):
    """The model, and the names that did not match."""
    model, told = kind.from_pretrained(directory, trust_remote_code=True, output_loading_info=True, **options)
    return model.eval(), [name for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in told[key]]


@torch.no_grad()
def generated(model, prompts, count, **options):
    """Greedy tokens for each prompt; several are padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=count, pad_token_id=0, **options)
    return out[:, width:].tolist()


def check_model(checks, command, directory, state, config, tokens):
    """Logits in every dtype and form, and that frequencies stay what they are."""
    vocab = state["embed.weight"].shape[0]
    for name in TOLERANCE:
        want = command.logits(directory, tokens, SHORT[name], (), 1, None)
        model, odd = loaded(directory, dtype=getattr(torch, name))
        checks.that(not odd, f"{directory.name}: {name}: names {odd}")
        checks.that(model.attn.freqs.dtype == torch.float32 and torch.equal(model.attn.freqs, state["attn.freqs"]), f"{name}: freqs")
        checks.that(all(torch.equal(tensor, state[key].to(tensor.dtype)) for key, tensor in model.state_dict().items()), f"{name}: weights")
        checks.that(list(model.state_dict()) and set(model.state_dict()) == set(state), f"{name}: names of the state_dict")
        ids = torch.tensor([tokens])
        with torch.no_grad():
            forms = {"whole": model(ids).logits[0], "kept": model(ids, use_cache=True).logits[0]}
        with torch.enable_grad():
            forms["for training"] = model(ids).logits[0].detach()
        for form, logits in forms.items():
            difference = relative_difference(logits.float(), want)
            far = too_far(difference, state, config, tokens, dtype=getattr(torch, name), tolerance=TOLERANCE[name])
            checks.that(logits.shape == (len(tokens), vocab) and not far, f"{directory.name}: {name} {form}: logits differ by {difference:.1e}")


def check_generation(checks, directory, state, config, draw):
    """Greedy text one token at a time, in batches, in beams, and going on from a cache."""
    model, _ = loaded(directory, dtype=torch.float32)
    vocab = config["vocab_size"]
    prompts = [[draw.randrange(vocab) for _ in range(count)] for count in (9, 1, 5)]
    rounded = bdh_torch.rounded(state, torch.float32)
    want = [bdh_torch.greedy(rounded, config, prompt, 30) for prompt in prompts]
    for cached in (True, False):
        alone = [generated(model, [prompt], 30, use_cache=cached)[0] for prompt in prompts]
        checks.that(alone == want, f"{directory.name}: greedy, use_cache {cached}")
        checks.that(generated(model, prompts, 30, use_cache=cached) == want, f"{directory.name}: padded batch, use_cache {cached}")
    with mock.patch.object(type(model), "read", autospec=True, side_effect=type(model).read) as read:
        generated(model, [prompts[0]], 5)
    checks.that([call.args[1].shape[1] for call in read.call_args_list] == [9, 1, 1, 1, 1], f"{directory.name}: generate keeps what it has read")
    beams = [generated(model, prompts, 20, use_cache=cached, num_beams=3) for cached in (True, False)]
    checks.that(beams[0] == beams[1], f"{directory.name}: beam search")
    checks.that(beams[0] == [generated(model, [prompt], 20, num_beams=3)[0] for prompt in prompts], f"{directory.name}: padded beams")
    samples = []
    for cached in (True, False):
        torch.manual_seed(3)
        samples.append(model.generate(torch.tensor([prompts[0]]), max_new_tokens=20, do_sample=True, use_cache=cached, pad_token_id=0))
    checks.that(torch.equal(*samples), f"{directory.name}: sampling")
    with torch.no_grad():
        whole = model(torch.tensor([prompts[0]]), use_cache=True)
        parts = model(torch.tensor([prompts[0][:4]]), use_cache=True)
        before, its_name = copy.deepcopy(parts.past_key_values), sys.modules[type(model).__module__].CACHE
        parts = model(torch.tensor([prompts[0][4:]]), past_key_values=parts.past_key_values)
        renamed = model(torch.tensor([prompts[0][4:]]), cache=copy.deepcopy(before))
        told = generated(model, [prompts[0]], 30, **{its_name: before})[0]
    checks.that(torch.equal(renamed.logits, parts.logits), f"{directory.name}: a cache under its other name")
    checks.that(told == want[0], f"{directory.name}: generate from a cache")
    checks.that(not too_far(relative_difference(parts.logits[:, -1], whole.logits[:, -1]), state, config, prompts[0]), f"{directory.name}: in two calls")
    checks.that(parts.past_key_values.get_seq_length() == len(prompts[0]), f"{directory.name}: tokens read")


def check_horizon(checks, directory, state, config, draw):
    """A horizon in forward and in generate, whole and from a cache, padded, by head, and from generation_config.json."""
    model, _ = loaded(directory, dtype=torch.float32)
    heads, vocab = config["n_head"], config["vocab_size"]
    rounded = bdh_torch.rounded(state, torch.float32)
    tokens = [draw.randrange(vocab) for _ in range(300)]
    by_head = [3.0 + 7 * head for head in range(heads)]
    for given, each in ((9.5, [9.5] * heads), ("inf", [math.inf] * heads), (by_head, by_head), (2, [2.0] * heads)):
        want = bdh_torch.logits(rounded, config, tokens, each)
        ids = torch.tensor([tokens])
        with torch.no_grad():
            first = model(ids[:, :5], use_cache=True, horizon=given)
            second = model(ids[:, 5:], past_key_values=first.past_key_values)
            forms = {"whole": model(ids, horizon=given).logits, "kept": model(ids, use_cache=True, horizon=given).logits,
                     "in two calls": torch.cat((first.logits, second.logits), 1)}
        with torch.enable_grad():
            forms["for training"] = model(ids, horizon=given).logits.detach()
        for form, logits in forms.items():
            difference = relative_difference(logits[0], want)
            far = too_far(difference, state, config, tokens, horizon=each)
            checks.that(not far, f"{directory.name}: horizon {given} {form}: logits differ by {difference:.1e}")
    prompts = [tokens[:count] for count in (9, 1, 5)]
    want = [bdh_torch.greedy(rounded, config, prompt, 30, by_head) for prompt in prompts]
    plain = [bdh_torch.greedy(rounded, config, prompt, 30) for prompt in prompts]
    for cached in (True, False):
        checks.that(generated(model, prompts, 30, use_cache=cached, horizon=by_head) == want, f"{directory.name}: horizon, padded batch, {cached}")
        model.generation_config.horizon = by_head
        checks.that(generated(model, prompts, 30, use_cache=cached) == want, f"{directory.name}: horizon of generation_config, {cached}")
        checks.that(generated(model, prompts, 30, use_cache=cached, horizon="none") == plain, f"{directory.name}: horizon none, {cached}")
        model.generation_config.horizon = None
        checks.that(generated(model, prompts, 30, use_cache=cached) == plain, f"{directory.name}: no horizon, {cached}")
    for wrong in (0, -1, [1.0] * (heads + 1), "soon"):
        try:
            model(torch.tensor([[1]]), horizon=wrong)
            checks.that(False, f"horizon {wrong} was taken")
        except ValueError:
            pass


def check_training(checks, directory, state, config, tokens):
    """The shifted loss, and that every parameter gets a gradient."""
    model, _ = loaded(directory, dtype=torch.float32)
    model.config.dropout = 0.0
    ids = torch.tensor([tokens])
    labels = torch.nn.functional.pad(ids, (0, 3), value=-100)
    mask = (labels != -100).long()
    padded = torch.nn.functional.pad(ids, (0, 3), value=0)
    loss = model.train()(padded, attention_mask=mask, labels=labels).loss
    logits = bdh_torch.logits(bdh_torch.rounded(state, torch.float32), config, tokens)
    want = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:]).item()
    checks.that(abs(loss.item() - want) < 1e-5, f"{directory.name}: loss {loss.item()}, not {want}")
    loss.backward()
    checks.that(all(parameter.grad is not None for parameter in model.parameters()), f"{directory.name}: gradients")
    double = {name: 2 * tensor for name, tensor in model.state_dict().items() if name != "attn.freqs"}
    other, _ = loaded(directory, dtype=torch.float32)
    other.load_state_dict(double, strict=False)
    with torch.no_grad():
        called = torch.func.functional_call(model.eval(), double, (ids,)).logits
        checks.that(torch.equal(called, other(ids).logits), f"{directory.name}: functional_call by the names of the state_dict")


def check_saved_back(checks, command, directory, folder, tokens):
    """What transformers saves loads in bdh, bit for bit and without a warning, and in transformers again."""
    model, _ = loaded(directory)
    for name, options in {"one": {}, "shards": {"max_shard_size": "20KB"}}.items():
        saved = folder / f"{directory.name}-{name}"
        model.save_pretrained(saved, **options)
        done = subprocess.run([str(command.path), "inspect", str(saved), "--json"], capture_output=True, text=True)
        checks.that(done.returncode == 0 and not json.loads(done.stdout)["warnings"] and not done.stderr, f"{saved.name}: {done.stderr}")
        told = command.logits(saved, tokens, "f32", (), 1, None)
        checks.that(torch.equal(told, command.logits(directory, tokens, "f32", (), 1, None)), f"{saved.name}: logits in bdh")
        again, odd = loaded(saved)
        same = all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())
        checks.that(same and not odd, f"{saved.name}: weights in transformers")


def check_greedy_text(checks, command, demo, folder):
    """200 tokens of the trained model, as text."""
    directory = folder / "demo"
    command.run("convert", demo, directory, "--huggingface")
    told = json.loads(command.run("generate", directory, "--prompt", "ROMEO:", "--greedy", "--max-new-tokens", 200, "--dtype", "f32", "--json"))
    model, odd = loaded(directory, dtype=torch.float32)
    checks.that(not odd, f"demo: names {odd}")
    checks.that(told["horizon"] == 48 and model.generation_config.horizon == 48, "demo: its horizon")
    for cached in (True, False):
        tokens = generated(model, [list(b"ROMEO:")], 200, use_cache=cached)[0]
        checks.that(tokens == told["tokens"], f"demo: greedy text, use_cache {cached}")
    checks.that(loaded(directory)[0].dtype == torch.bfloat16, "demo: loads in the dtype it is stored in")
    base, odd = loaded(directory, AutoModel)
    checks.that(not odd and base(torch.tensor([[1, 2]])).last_hidden_state.shape == (1, 2, 128), "demo: AutoModel")
    config = AutoConfig.from_pretrained(directory, trust_remote_code=True)
    checks.that((config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (128, 4, 4), "demo: AutoConfig")
    return directory


def trained_tokenizer(directory):
    """A byte-level BPE with special tokens, saved as transformers saves one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["To be, or not to be, that is the question."] * 5, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.save_pretrained(directory)
    return fast


def check_tokenizer(checks, command, folder, generator):
    """A model with a tokenizer: the same ids and special tokens, and generate stops at eos."""
    source, directory = folder / "with-tokenizer", folder / "with-tokenizer-hf"
    source.mkdir()
    fast = trained_tokenizer(source)
    config = bdh_torch.config_of(n_layer=2, n_embd=16, n_head=2, mlp_internal_dim_multiplier=8, vocab_size=len(fast))
    state = bdh_torch.random_state(config, generator, 0.1)
    write_model(source, config, state)
    command.run("convert", source, directory, "--huggingface")
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    text = "To be, or not to be: что? 🦉"
    checks.that(tokenizer(text)["input_ids"] == fast(text)["input_ids"], "AutoTokenizer: ids")
    checks.that(tokenizer.decode(tokenizer(text)["input_ids"]) == text, "AutoTokenizer: text")
    model, _ = loaded(directory)
    for where in (model.config, model.generation_config):
        ids = (where.pad_token_id, where.bos_token_id, where.eos_token_id)
        checks.that(ids == (0, 1, 2), f"special tokens in {type(where).__name__}: {ids}")
    first = generated(model, [[5, 6]], 1)[0][0]
    model.generation_config.eos_token_id = first
    checks.that(len(generated(model, [[5, 6]], 20)[0]) == 1, "generate stops at eos")
    inputs = dict(tokenizer([text, "To be"], return_tensors="pt", padding=True, padding_side="left"), token_type_ids=None)
    checks.that(model.generate(**inputs, max_new_tokens=3).shape[0] == 2, "generate takes what the tokenizer gives")
    return directory


def check_ends(checks, command, demo, folder):
    """eos_token_id ends a text at the same token in both, wherever it stands."""
    directory = folder / "ends"
    command.run("convert", demo, directory, "--huggingface")
    settings, config = (directory / name for name in ("generation_config.json", "config.json"))
    plain, sizes = json.loads(settings.read_text()), json.loads(config.read_text())
    cases = {"one": (ord("e"), None), "several": ([1, ord("\n"), ord(",")], None), "none": (None, None), "strange": (4096, None),
             "config.json": (None, ord("h")), "both": (ord("\n"), ord("h")), "null": (None, ord("h"))}
    for name, (in_settings, in_config) in cases.items():
        settings.write_text(json.dumps(dict(plain, eos_token_id=in_settings)))
        config.write_text(json.dumps(dict(sizes, **({} if in_config is None else {"eos_token_id": in_config}))))
        if name == "config.json":
            settings.unlink()
        words = ("generate", directory, "--prompt", "ROMEO:", "--greedy", "--max-new-tokens", 60, "--dtype", "f32", "--json")
        told = json.loads(command.run(*words))
        model, _ = loaded(directory, dtype=torch.float32)
        tokens = generated(model, [list(b"ROMEO:")], 60)[0]
        checks.that(tokens == told["tokens"], f"ends: {name}: {len(tokens)} tokens, bdh {len(told['tokens'])}")
        stops = name in ("one", "several", "config.json", "both")
        checks.that(told["finish"] == ("eos" if stops else "length"), f"ends: {name}: {told['finish']}")


def check_pickle(checks, command, demo, folder, tokens):
    """pytorch_model.bin, which transformers reads where there is no safetensors."""
    directory = folder / "pickled"
    command.run("convert", demo, directory, "--huggingface", "--to", "pt")
    checks.that((directory / "pytorch_model.bin").exists(), "pytorch_model.bin")
    model, odd = loaded(directory, dtype=torch.float32)
    want = command.logits(demo, tokens, "f32", (), 1, None)
    with torch.no_grad():
        checks.that(not odd and relative_difference(model(torch.tensor([tokens])).logits[0], want) <= 1e-5, "pickled: logits")
    return directory


def table(card):
    """The first two cells of every row of the card's tables."""
    rows = [line.split("|")[1:-1] for line in card.text.splitlines() if line.startswith("|")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in rows}


def number(text):
    return int(text.split()[0].replace(",", ""))


def row_name(name, config):
    """Where the card tells of a parameter: those of all layers stand in one row."""
    stem, _, layer = name.rpartition(".")
    several = layer.isdigit() and config.n_layer > 1
    return f"{stem}.0` to `{stem}.{config.n_layer - 1}" if several else name


def check_card_numbers(checks, directory):
    """Counts and sizes as PyTorch has them."""
    card = ModelCard.load(directory / "README.md")
    rows = table(card)
    model, _ = loaded(directory)
    parameters = {name: tensor for name, tensor in model.state_dict().items() if name != "attn.freqs"}
    total = sum(parameter.numel() for parameter in parameters.values())
    checks.that(number(rows["parameters"][0]) == number(rows["all"][-1]) == total, f"{directory.name}: card: parameters")
    for name, parameter in parameters.items():
        shape, count = rows[row_name(name, model.config)]
        checks.that(shape == str(tuple(parameter.shape)) and number(count) == parameter.numel(), f"card: {name}")
    for name in TOLERANCE:
        state = bdh_torch.cast(model.state_dict(), getattr(torch, name))
        size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
        checks.that(number(rows[name][0]) == size, f"card: size as {name}")
    with torch.no_grad():
        states = model(torch.tensor([[0, 1]]), use_cache=True).past_key_values.states
    checks.that(number(rows["state of a sequence"][0]) == sum(s.numel() * s.element_size() for s in states), "card: state")
    checks.that(card.data.library_name == "transformers" and card.data.pipeline_tag == "text-generation", "card: what it is")


def check_card_words(checks, command, demo, folder):
    """Front matter reads back as the very words, whatever they are."""
    details, target = folder / "details.json", folder / "words"
    for word in HOSTILE:
        words = {"license": word, "license_name": word, "license_link": word, "language": [word, "en"], "tags": [word],
                 "description": word, "metrics": {word: word}, "provenance": {word: [word]}, "dataset": word, "base_model": word}
        details.write_text(json.dumps(words))
        command.run("convert", demo, target, "--overwrite", "--details", details, "--training-args", details)
        data = ModelCard.load(target / "README.md").data
        checks.that((data.license, data.license_name, data.license_link) == ("other", word, word), f"card: license {word!r}")
        checks.that(data.language == [word, "en"] and word in data.tags, f"card: words {word!r}")
        checks.that("datasets" not in data.to_dict() or data.datasets == [word], f"card: datasets {word!r}")
    details.write_text(json.dumps({"license": "MIT", "language": "en", "datasets": ["karpathy/tiny_shakespeare"], "base_model": "a/b"}))
    command.run("convert", demo, target, "--overwrite", "--details", details)
    data = ModelCard.load(target / "README.md").data
    checks.that((data.license, data.language, data.datasets) == ("mit", ["en"], ["karpathy/tiny_shakespeare"]), "card: known words")


def snippets(directory):
    """The code in the directory's card, by language."""
    found, language = [], None
    for line in (directory / "README.md").read_text().splitlines():
        if line.startswith("```"):
            language = None if language else line[3:]
            found += [(language, [])] if language else []
        elif language:
            found[-1][1].append(line)
    return [(language, "\n".join(lines) + "\n") for language, lines in found]


AUTHORS = """
    import dataclasses, torch
    @dataclasses.dataclass
    class BDHConfig:
        n_layer: int = 6
        n_embd: int = 256
        dropout: float = 0.1
        n_head: int = 4
        mlp_internal_dim_multiplier: int = 128
        vocab_size: int = 256
    class BDH(torch.nn.Module):
        def __init__(self, c):
            super().__init__()
            n = c.mlp_internal_dim_multiplier * c.n_embd // c.n_head
            empty = lambda *shape: torch.nn.Parameter(torch.empty(shape))
            self.decoder, self.lm_head = empty(c.n_head * n, c.n_embd), empty(c.n_embd, c.vocab_size)
            self.encoder, self.encoder_v = empty(c.n_head, c.n_embd, n), empty(c.n_head, c.n_embd, n)
            self.attn, self.embed = torch.nn.Module(), torch.nn.Embedding(c.vocab_size, c.n_embd)
            self.attn.register_buffer("freqs", torch.empty(1, 1, 1, n))
"""  # names and shapes of the authors' bdh.py, which the card's PyTorch code imports

CMAKE = """
    cmake_minimum_required(VERSION 3.22)
    project(snippet C CXX)
    find_package(bdh REQUIRED)
    file(GLOB source program.*)
    add_executable(program ${source})
    target_link_libraries(program bdh::bdh)
"""


def run_python(text, folder):
    """A piece of Python, as in a process of its own in that folder, but for what it imports; what it printed and its failure."""
    said, here, path = io.StringIO(), os.getcwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        with contextlib.redirect_stdout(said):
            exec(compile(text, "snippet", "exec"), {"__name__": "__main__"})
        return said.getvalue(), ""
    except Exception:
        return said.getvalue(), traceback.format_exc()
    finally:
        os.chdir(here)
        sys.path[:] = path


def run(words, **options):
    return subprocess.run([str(word) for word in words], capture_output=True, stdin=subprocess.DEVNULL, **options)


class Snippets:
    """Runs a card's code in a folder where path/to/model is the model."""

    def __init__(self, command, build, folder):
        self.prefix, self.work, self.programs = folder / "installed", folder / "snippets", {}
        (self.work / "path" / "to").mkdir(parents=True)
        (self.work / "bdh.py").write_text(textwrap.dedent(AUTHORS))
        self.options = {"cwd": self.work, "env": dict(os.environ, PATH=f"{command.path.parent}:{os.environ['PATH']}")}
        run(["cmake", "--install", build, "--prefix", self.prefix], check=True)

    def program(self, language, text):
        """Compiled against the installed library, once for each text."""
        if text not in self.programs:
            source = self.work / f"program{len(self.programs)}"
            source.mkdir()
            (source / "CMakeLists.txt").write_text(textwrap.dedent(CMAKE))
            (source / f"program.{language}").write_text(text)
            run(["cmake", "-S", source, "-B", source / "out", f"-DCMAKE_PREFIX_PATH={self.prefix}"], check=True)
            run(["cmake", "--build", source / "out"], check=True)
            self.programs[text] = source / "out" / "program"
        return [self.programs[text]]

    def run(self, directory, language, text):
        link = self.work / "path" / "to" / "model"
        link.unlink(missing_ok=True)
        link.symlink_to(directory)
        if language == "python":
            return run_python(text, self.work)
        done = run(["sh", "-e", "-c", text] if language == "sh" else self.program(language, text), **self.options)
        said = (done.stdout + done.stderr).decode(errors="replace")
        return said, "" if done.returncode == 0 else f"exit code {done.returncode}"


def check_snippets(checks, command, build, directories, folder):
    """Every command and program in the cards runs."""
    runner, counts = Snippets(command, build, folder), {"sh": 0, "python": 0, "cpp": 0, "c": 0}
    for directory in directories:
        for language, text in snippets(directory):
            if text.startswith("bdh train"):  # how the model was made: that took as long as its card says
                continue
            if language not in counts:
                continue
            try:
                said, failure = runner.run(directory, language, text)
            except subprocess.CalledProcessError as error:
                said, failure = (error.stdout + error.stderr).decode(errors="replace"), str(error)
            counts[language] += 1
            checks.that(not failure, f"{directory.name}: {language}:\n{text}\n{said[-1500:]}\n{failure}")
    print("snippets run:", ", ".join(f"{count} {language}" for language, count in counts.items()))
    checks.that(all(counts.values()), "a card has commands, Python, C++ and C")


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    draw, generator = random.Random(arguments.seed), torch.Generator().manual_seed(arguments.seed)
    checks = Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Command(arguments.bdh, folder)
        for index in range(arguments.models):
            config, state = random_model(draw, generator, tie_layers=index % 2 == 0)
            tokens = [draw.randrange(config["vocab_size"]) for _ in range(draw.choice((20, 300)))]
            plain, directory = folder / f"plain{index}", folder / f"model{index}"
            write_model(plain, config, state)
            command.run("convert", plain, directory, "--huggingface", *(("--max-shard-size", "20KB") if index % 2 else ()))
            print(f"model {index}: {config}, {len(tokens)} tokens")
            check_model(checks, command, directory, load_file(plain / "model.safetensors"), config, tokens)
            check_generation(checks, directory, state, config, draw)
            check_horizon(checks, directory, state, config, draw)
            check_training(checks, directory, state, config, tokens)
            check_saved_back(checks, command, directory, folder, tokens)
            check_card_numbers(checks, directory)
        demo = check_greedy_text(checks, command, arguments.demo, folder)
        with_tokenizer = check_tokenizer(checks, command, folder, generator)
        check_ends(checks, command, arguments.demo, folder)
        pickled = check_pickle(checks, command, arguments.demo, folder, list(b"ROMEO: and so"))
        check_card_numbers(checks, demo)
        check_card_words(checks, command, arguments.demo, folder)
        plain = folder / "plain-demo"
        command.run("convert", arguments.demo, plain, "--max-shard-size", "1MB")
        check_snippets(checks, command, arguments.build, [demo, with_tokenizer, pickled, plain, folder / "model0", folder / "model1"], folder)
    print(f"huggingface parity: {checks.done} checks, {f'{len(checks.failed)} failures' if checks.failed else 'ok'}")
    return 1 if checks.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    checking = modes.add_parser("check")
    checking.add_argument("--bdh", type=pathlib.Path, required=True)
    checking.add_argument("--build", type=pathlib.Path, required=True, help="the build directory, whose library the C++ snippets use")
    checking.add_argument("--demo", type=pathlib.Path, required=True)
    checking.add_argument("--models", type=int, default=2)
    checking.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    return check(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
