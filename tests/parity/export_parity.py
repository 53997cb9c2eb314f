"""Our Python in the hands of others: torch.export, torch.jit, torch.onnx with onnxruntime, pipeline, Trainer, push_to_hub, peft.

    export_parity.py check --bdh build/bdh --demo DIRECTORY

Random models differ from run to run; --seed repeats one. Nothing is fetched or sent: the hub is switched off, and pushes end in a folder.
"""
import argparse
import contextlib
import copy
import json
import logging
import pathlib
import random
import shutil
import sys
import tempfile
import time
import warnings
from unittest import mock

from huggingface_parity import loaded, run_python, snippets, trained_tokenizer  # first: it sets what transformers reads when imported

import huggingface_hub
import onnxruntime
import peft
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Trainer, TrainingArguments, pipeline

import bdh_torch
from checks import Checks
from logits_parity import Command, relative_difference, too_far, write_model

logging.getLogger("torch.onnx").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")
TOLERANCE, HALF_TOLERANCE = 1e-5, 3e-2  # of the largest logit, in float32 and bfloat16
STEPS = (1, 5, 1, 1, 40, 1, 64, 3, 150)  # tokens at a time
STARTS = (1000, 100_000, 16_000_000)
FAR = 2**40  # with a horizon, whose phases are exact
README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
BATCH, TOKENS = torch.export.Dim("batch"), torch.export.Dim("tokens")
WHOLE, STEP = {"input_ids": {0: BATCH, 1: TOKENS}}, ({0: BATCH, 1: TOKENS}, {1: BATCH}, {0: BATCH})
NAMES = ["input_ids", "states", "position"]


def onnx_function(path):
    """Tensors in, tensors out, by onnxruntime."""
    session = onnxruntime.InferenceSession(path)
    names = [given.name for given in session.get_inputs()]

    def run(*tensors):
        return [torch.from_numpy(out) for out in session.run(None, {name: tensor.numpy() for name, tensor in zip(names, tensors)})]

    return run


def to_onnx(folder, module, arguments, dynamic, **options):
    """By either exporter; the older one is told of axes by name."""
    path = folder / "exported.onnx"
    names = NAMES[:len(arguments)]
    if options["dynamo"]:
        options["dynamic_shapes"] = dynamic
    else:
        each = dynamic if isinstance(dynamic, tuple) else dynamic.values()
        options["dynamic_axes"] = {name: {axis: dim.__name__ for axis, dim in axes.items()} for name, axes in zip(names, each)}
    with contextlib.redirect_stdout(None):
        torch.onnx.export(module, arguments, path, input_names=names, verbose=False, **options)
    return onnx_function(path)


def command_logits(command, directory, ids, horizon, dtype="f32"):
    """What bdh logits says of every row of ids (B, T): (B, T, V)."""
    given = horizon if isinstance(horizon, list) else [horizon]
    damped = () if horizon is None else ("--horizon", ",".join(map(str, given)))
    return torch.stack([command.logits(directory, row.tolist(), dtype, damped, 2, None) for row in ids])


class Damped(torch.nn.Module):
    """A model that reads with a horizon."""

    def __init__(self, model, horizon):
        super().__init__()
        self.model, self.horizon = model, horizon

    def forward(self, input_ids):
        return self.model(input_ids, horizon=self.horizon).logits


def kept(folder, save, load, made):
    """What was made, as it comes back from a file."""
    path = folder / "kept.pt2"
    save(made, str(path))
    return load(str(path))


def forms(module, arguments, dynamic, folder):
    """name: how to make a function of the arguments, for any batch and length. What is traced knows B 2, T 7 alone."""
    return {"torch.export, strict": lambda: kept(folder, torch.export.save, torch.export.load, torch.export.export(
                module, arguments, dynamic_shapes=dynamic, strict=True)).module(),
            "torch.export": lambda: torch.export.export(module, arguments, dynamic_shapes=dynamic, strict=False).module(),
            "torch.jit.trace": lambda: kept(folder, torch.jit.save, torch.jit.load,
                                            torch.jit.trace(module, arguments, strict=False, check_trace=False)),
            "torch.onnx": lambda: to_onnx(folder, module, arguments, dynamic, dynamo=True),
            "torch.onnx, older": lambda: to_onnx(folder, module, arguments, dynamic, dynamo=False)}


def logits_in(output):
    """Of the model's output, however the export has it."""
    if torch.is_tensor(output):
        return output
    return output["logits"] if hasattr(output, "keys") else output[0]


def in_steps(function, step, ids):
    """The logits of a text read STEPS tokens at a time."""
    states, position = step.empty(ids.shape[0])
    parts = []
    for part in ids.split(STEPS, dim=1):
        logits, states, position = function(part, states, position)
        parts.append(logits)
    return torch.cat(parts, 1), position


@torch.no_grad()
def check_whole(checks, name, function, ids, want):
    """Longer and shorter than what was traced, one sequence and several."""
    for given, expected in ((ids, want), (ids[:1], want[:1]), (ids[:, :1], want[:, :1]), (ids[:1, :2], want[:1, :2])):
        difference = relative_difference(logits_in(function(given)), expected)
        checks.that(difference <= TOLERANCE, f"{name}: whole text of {tuple(given.shape)}: logits differ by {difference:.1e}")


@torch.no_grad()
def check_step(checks, name, function, step, ids, want):
    """From nothing in steps of all sizes, and from anywhere: the position is no constant."""
    for some in (slice(None), slice(1)):
        logits, position = in_steps(function, step, ids[some])
        difference = relative_difference(logits, want[some])
        checks.that(difference <= TOLERANCE, f"{name}: in steps: logits differ by {difference:.1e}")
        checks.that(position.tolist() == [[ids.shape[1]]] * len(logits), f"{name}: position {position.tolist()}")
    for start in STARTS + ((FAR,) if step.horizon is not None else ()):
        states, position = torch.randn_like(step.empty(2)[0]), torch.tensor([[start], [start + 7]])
        before = states.clone()
        got, expected = function(ids[:2, :9], states, position), step(ids[:2, :9], states, position)
        same = max(relative_difference(one, other) for one, other in zip(got[:2], expected[:2])) <= TOLERANCE
        checks.that(same and torch.equal(got[2], position + 9), f"{name}: from position {start}")
        checks.that(torch.equal(states, before), f"{name}: changes what it was given")


def small_model(folder, generator, tie_layers, name):
    """A random model's config and state, and the folders it is in as PyTorch saved it and as convert --huggingface will have it."""
    config = bdh_torch.config_of(n_layer=2, n_embd=20, n_head=3, mlp_internal_dim_multiplier=6, vocab_size=60, tie_layers=tie_layers)
    state = bdh_torch.random_state(config, generator, 0.1)
    write_model(folder / f"{name}-plain", config, state)
    return config, state, folder / f"{name}-plain", folder / name


def check_exports(checks, command, folder, generator):
    """Every way out, tied and untied, with a horizon and without; README's recipe is the one that is missing."""
    light = ("torch.jit.trace", "torch.onnx, older")
    cases = {"tied": (True, None, ("torch.export, strict", "torch.onnx", *light), light),
             "untied": (False, [4.0, float("inf"), 60.0], light, ("torch.export, strict", *light))}
    for name, (tie_layers, horizon, whole, steps) in cases.items():
        config, state, plain, directory = small_model(folder, generator, tie_layers, name)
        command.run("convert", plain, directory, "--huggingface")
        model, _ = loaded(directory, dtype=torch.float32)
        ids = torch.randint(60, (3, sum(STEPS)), generator=generator)
        want = command_logits(command, directory, ids, horizon)
        step = model.as_step(horizon)
        check_step(checks, f"{name}, eager", step, step, ids, want)
        reads = model if horizon is None else Damped(model, horizon).eval()
        traced = torch.randint(60, (2, 7), generator=generator)
        ways = forms(reads, (traced,), WHOLE, folder)
        for form in whole:
            check_whole(checks, f"{name}, {form}", ways[form](), ids, want)
        ways = forms(step, (traced, *step.empty(2)), STEP, folder)
        for form in steps:
            check_step(checks, f"{name}, {form}", ways[form](), step, ids, want)
    half = model.bfloat16()
    with torch.no_grad():
        program = forms(half, (traced,), WHOLE, folder)["torch.export"]()
        difference = relative_difference(logits_in(program(ids)).float(), command_logits(command, directory, ids, None, "bf16"))
        far = too_far(difference, state, config, ids, dtype=torch.bfloat16, tolerance=HALF_TOLERANCE)
        checks.that(not far, f"torch.export in bfloat16: logits differ by {difference:.1e}")


def check_recipe(checks, command, demo, folder, generator):
    """README's code, as it stands, in a folder where DIR is a model; and the file it writes."""
    directory = folder / "recipe" / "DIR"
    command.run("convert", demo, directory, "--huggingface")
    recipes = [text for language, text in snippets(README.parent) if language == "python" and "onnx" in text]
    checks.that(len(recipes) == 1, "README: a recipe")
    said, failure = run_python(recipes[0], directory.parent)
    want = command.run("generate", demo, "--prompt", "ROMEO:", "--greedy", "--max-new-tokens", 100, "--dtype", "f32").decode()
    checks.that(not failure and want.strip() in said, f"README: the recipe says\n{said}\nnot\n{want}\n{failure}")
    model, _ = loaded(directory, dtype=torch.float32)
    ids = torch.randint(256, (3, sum(STEPS)), generator=generator)
    want = command_logits(command, directory, ids, 48)
    check_step(checks, "README's step.onnx", onnx_function(directory.parent / "step.onnx"), model.as_step(48), ids, want)


def with_tokenizer(command, folder, generator):
    """A directory with a tokenizer and a horizon."""
    source, directory = folder / "spoken-plain", folder / "spoken"
    source.mkdir()
    fast = trained_tokenizer(source)
    config = bdh_torch.config_of(n_layer=2, n_embd=16, n_head=2, mlp_internal_dim_multiplier=8, vocab_size=len(fast))
    write_model(source, config, bdh_torch.random_state(config, generator, 0.1))
    (source / "generation_config.json").write_text(json.dumps({"horizon": 20}))
    command.run("convert", source, directory, "--huggingface")
    return directory


def check_pipeline(checks, command, directory):
    """pipeline("text-generation") says what bdh says, alone and in a batch."""
    speak = pipeline("text-generation", model=str(directory), trust_remote_code=True, dtype=torch.float32)
    prompts = ["To be, or not", "that", "the question is to be"]
    options = {"max_new_tokens": 20, "do_sample": False, "return_full_text": False}
    want = [json.loads(command.run("generate", directory, "--prompt", prompt, "--greedy", "--max-new-tokens", 20, "--dtype", "f32", "--json"))
            for prompt in prompts]
    for form, answers in (("alone", [speak(prompt, **options) for prompt in prompts]), ("batch", speak(prompts, batch_size=3, **options))):
        said = [answer[0]["generated_text"] for answer in answers]
        checks.that(said == [told["text"] for told in want], f"pipeline, {form}: {said}")


def check_same_in_bdh(checks, command, directory, model, ids, what):
    """The directory in bdh gives the model's logits."""
    with torch.no_grad():
        difference = relative_difference(model.eval()(ids[None]).logits[0].float(), command.logits(directory, ids.tolist(), "f32", (), 1, None))
    checks.that(difference <= TOLERANCE, f"{what}: in bdh: logits differ by {difference:.1e}")


def check_trainer(checks, command, directory, folder):
    """Ten steps, and two more from the checkpoint; with gradient checkpointing the same."""
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    ids = torch.tensor(tokenizer("To be, or not to be, that is the question. " * 20)["input_ids"])
    rows = [{"input_ids": row, "labels": row} for row in ids[:len(ids) // 4 * 4].view(4, -1)]
    losses = {}
    for checkpointing in (False, True):
        model, _ = loaded(directory, dtype=torch.float32)
        settings = {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "logging_steps": 1, "save_steps": 10, "use_cpu": True, "seed": 1,
                    "report_to": [], "disable_tqdm": True, "gradient_checkpointing": checkpointing, "output_dir": str(folder / "trained")}
        def trainer(steps):
            return Trainer(model, TrainingArguments(max_steps=steps, **settings), train_dataset=rows, processing_class=tokenizer)
        with contextlib.redirect_stdout(None):
            first = trainer(10)
            first.train()
        losses[checkpointing] = [line["loss"] for line in first.state.log_history if "loss" in line]
        saved = folder / "trained" / "checkpoint-10"
        check_same_in_bdh(checks, command, saved, model, ids, f"Trainer, gradient checkpointing {checkpointing}")
    checks.that(len(losses[False]) == 10 and losses[False][-1] < 0.8 * losses[False][0], f"Trainer: losses {losses[False]}")
    worst = max(abs(one - other) for one, other in zip(losses[False], losses[True]))
    checks.that(worst <= 1e-3, f"Trainer: gradient checkpointing changes the loss by {worst:.1e}")
    with contextlib.redirect_stdout(None):
        again = trainer(12)
        again.train(resume_from_checkpoint=str(saved))
    checks.that(again.state.global_step == 12, "Trainer: goes on from a checkpoint")


def pushed(objects, target):
    """What push_to_hub would upload, in a folder; the network begins at HfApi."""
    target.mkdir()

    def create_repo(self, repo_id, **unused):
        return mock.Mock(repo_id=repo_id)

    def create_commit(self, repo_id, operations, **unused):
        for operation in operations:
            shutil.copy(operation.path_or_fileobj, target / operation.path_in_repo)

    with mock.patch.multiple(huggingface_hub.HfApi, create_repo=create_repo, create_commit=create_commit):
        for each in objects:
            each.push_to_hub("somebody/something")
    return {path.name for path in target.iterdir()}


def check_push(checks, command, directory, folder):
    """A model and its tokenizer, pushed, are a directory that loads in both."""
    model, _ = loaded(directory)
    tokenizer, target = AutoTokenizer.from_pretrained(directory, trust_remote_code=True), folder / "pushed"
    files = pushed((model, tokenizer), target)
    needed = {"config.json", "generation_config.json", "model.safetensors", "modeling_bdh.py", "configuration_bdh.py", "README.md",
              "tokenizer.json", "tokenizer_config.json"}
    checks.that(needed <= files, f"push_to_hub: {sorted(files)}")
    ids = torch.arange(40) % model.config.vocab_size
    check_same_in_bdh(checks, command, target, loaded(target, dtype=torch.float32)[0], ids, "push_to_hub")
    code = [(target / name).read_bytes() == (directory / name).read_bytes() for name in ("modeling_bdh.py", "configuration_bdh.py")]
    checks.that(all(code), "push_to_hub: the Python is as it was")
    checks.that(loaded(target)[0].generation_config.horizon == 20, "push_to_hub: the horizon")


def adapted(model, names, ids, steps=5):
    """An adapter on the parameters of those names, trained a little, and the losses."""
    torch.manual_seed(1)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=[], target_parameters=names, r=4, lora_alpha=8))
    parameters = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.Adam(parameters, 2e-2), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = wrapped(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return wrapped.eval(), losses, all(parameter.grad is not None for parameter in parameters)


def check_peft(checks, command, folder):
    """target_parameters by the names of the state_dict, of three dimensions and of two; saved, loaded, merged."""
    for name in ("tied", "untied"):
        directory = folder / name
        base, _ = loaded(directory, dtype=torch.float32)
        names = [key for key in base.state_dict() if key.partition(".")[0] in ("decoder", "encoder", "encoder_v", "lm_head")]
        ids = torch.randint(60, (4, 30), generator=torch.Generator().manual_seed(1))
        wrapped, losses, reached = adapted(copy.deepcopy(base), names, ids)
        checks.that(reached and losses[-1] < losses[0], f"peft, {name}: losses {losses}")
        kept, merged_at = folder / f"{name}-adapter", folder / f"{name}-merged"
        with torch.no_grad():
            want, plain = wrapped(ids).logits, base(ids).logits
            with wrapped.disable_adapter():
                checks.that(torch.equal(wrapped(ids).logits, plain), f"peft, {name}: disabled")
            wrapped.save_pretrained(kept)
            count = sum(tensor.numel() for tensor in load_file(kept / "adapter_model.safetensors").values())
            checks.that(count == wrapped.get_nb_trainable_parameters()[0], f"peft, {name}: {count} parameters saved")
            again = peft.PeftModel.from_pretrained(copy.deepcopy(base), kept)
            checks.that(relative_difference(again(ids).logits, want) <= TOLERANCE, f"peft, {name}: loaded")
            checks.that(relative_difference(plain, want) > 1e-3, f"peft, {name}: the adapter does something")
            merged = again.merge_and_unload()
            merged.save_pretrained(merged_at)
        checks.that(set(merged.state_dict()) == set(base.state_dict()), f"peft, {name}: names once merged")
        check_same_in_bdh(checks, command, merged_at, wrapped, ids[0], f"peft, {name}: merged")


def check(arguments):
    print(f"seed {arguments.seed} (repeat with --seed)")
    torch.manual_seed(arguments.seed)
    generator, checks, began = torch.Generator().manual_seed(arguments.seed), Checks(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        command = Command(arguments.bdh, folder)
        spoken = with_tokenizer(command, folder, generator)
        for what, run in {"exports": lambda: check_exports(checks, command, folder, generator),
                          "recipe": lambda: check_recipe(checks, command, arguments.demo, folder, generator),
                          "pipeline": lambda: check_pipeline(checks, command, spoken),
                          "Trainer": lambda: check_trainer(checks, command, spoken, folder),
                          "push_to_hub": lambda: check_push(checks, command, spoken, folder),
                          "peft": lambda: check_peft(checks, command, folder)}.items():
            run()
            print(f"{what}: {time.monotonic() - began:.1f} s")
            began = time.monotonic()
    print(f"export parity: {checks.done} checks, {f'{len(checks.failed)} failures' if checks.failed else 'ok'}")
    return 1 if checks.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    checking = modes.add_parser("check")
    checking.add_argument("--bdh", type=pathlib.Path, required=True)
    checking.add_argument("--demo", type=pathlib.Path, required=True)
    checking.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    return check(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
