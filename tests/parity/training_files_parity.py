"""What a training run leaves for others: event files in the tensorboard package, models in PyTorch and transformers.

    training_files_parity.py check --bdh build/bdh --tests build/bdh_tests
                                      the golden file is still what the tensorboard package writes; it reads the files of
                                      a run that was killed and resumed; what bdh train leaves loads with the same logits
    training_files_parity.py write    writes tests/data/training anew
"""
import argparse
import io
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

os.environ["HF_HUB_OFFLINE"] = "1"
MODULES = tempfile.TemporaryDirectory()  # where transformers puts copies of our Python
os.environ["HF_MODULES_CACHE"] = MODULES.name

import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

import bdh_torch
from logits_parity import Command, relative_difference
from pretrained_parity import config_of, state_of

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "data" / "training" / "events.out.tfevents.golden"


def metrics_event(wall_time, step, scalars, text=None):
    event = event_pb2.Event(wall_time=wall_time, step=step)
    for tag, value in scalars.items():
        event.summary.value.add(tag=tag, simple_value=value)
    if text is not None:
        value = event.summary.value.add(tag="sample")
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = 7  # DT_STRING
        value.tensor.tensor_shape.dim.add(size=1)
        value.tensor.string_val.append(text.encode())
    return event


def golden_bytes():
    """The records of tests/train/event_file_test.cpp, by the package."""
    session = event_pb2.Event(wall_time=1700000000.5, step=1)
    session.session_log.status = event_pb2.SessionLog.START
    train = {"train/loss": 5.25, "train/lr": 0.001, "train/grad_norm": 2, "train/tokens_per_second": 1000}
    valid = {"valid/loss": 1.5, "valid/bits_per_byte": 2.25, "valid/ema_loss": 1.25}
    events = [event_pb2.Event(wall_time=1700000000.5, file_version="brain.Event:2"), session,
              metrics_event(1700000001, 1, train),
              metrics_event(1700000002, 300, {**train, "train/loss": -69.5, **valid}, "To be,\nor not é\N{REPLACEMENT CHARACTER}")]
    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
    return file.getvalue()


def values_in(run, tag):
    """(step, value) of a tag as TensorBoard shows it."""
    return [(event.step, tensor_util.make_ndarray(event.tensor_proto).item()) for event in run.Tensors(tag)]


def check_run(folder):
    """Twenty steps, killed in the middle of a record; gone on from step 12 with other losses to step 15."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # which says that the run was resumed
    script = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    script.Reload()
    expected = [(step, step if step <= 12 else 100 + step) for step in range(1, 16)]
    found = [(event.step, event.value) for event in script.Scalars("train/loss")]
    assert found == expected, f"train/loss is {found}"
    shown = plugin_event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0})
    shown.Reload()
    wanted = {"train/loss": expected, "valid/loss": [(10, 0.5), (15, 0.25)],
              "sample": [(10, "ten é".encode()), (15, "fifteen é".encode())]}
    for tag, values in wanted.items():
        assert values_in(shown, tag) == values, f"{tag} is {values_in(shown, tag)}"
    assert shown.SummaryMetadata("sample").plugin_data.plugin_name == "text"


transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
torch.set_num_threads(1)
TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. " * 400
CONFIG = {"n_layer": 2, "n_embd": 24, "n_head": 3, "mlp_internal_dim_multiplier": 10, "vocab_size": 256, "dropout": 0.1}
HORIZON = 20.0


def train(command, folder, name, *options):
    """The model directories of a short run."""
    out = folder / name
    command.run("train", "--data", folder / "text.txt", "--config", folder / "config.json", "--out", out, "--steps", 30,
                "--batch", 4, "--block", 32, "--valid-every", 10, "--ema", 0.8, "--version", "v1.0", *options)
    return [out / kind for kind in ("final", "best", "ema")]


def difference_of(logits, want):
    assert logits.shape == want.shape, f"logits are {tuple(logits.shape)}"
    return relative_difference(logits.float(), want)


def check_directory(command, directory, horizon):
    """bdh and PyTorch agree on it, and its files say what it is."""
    tokens = list(TEXT[:80].encode())
    want = bdh_torch.logits(state_of(directory), config_of(directory), tokens, horizon and [horizon] * CONFIG["n_head"])
    options = ("--horizon", horizon) if horizon else ()
    assert difference_of(command.logits(directory, tokens, "f32", options, 1, None), want) <= 1e-5, f"{directory}: logits"
    generation = json.loads((directory / "generation_config.json").read_text())
    assert generation.get("horizon") == horizon, f"{directory}: {generation}"
    args = json.loads((directory / "training_args.json").read_text())
    assert args["block_size"] == 32 and args["batch"] == 4 and args["lr"] == 0.001, f"{directory}: {args}"
    told = json.loads((directory / "training_metadata.json").read_text())
    assert told["version"] == "v1.0" and told["metrics"]["valid_loss"] < 5 and told["history"], f"{directory}: {told}"
    assert "bdh" in ModelCard.load(directory / "README.md").data.tags, f"{directory}: README.md"


def check_transformers(command, directory):
    tokens = list(TEXT[:80].encode())
    want = command.logits(directory, tokens, "f32", (), 1, None)
    model, told = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True, output_loading_info=True)
    odd = [name for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in told[key]]
    assert not odd, f"{directory}: names {odd}"
    with torch.no_grad():
        assert difference_of(model.eval()(torch.tensor([tokens])).logits[0], want) <= 1e-5, f"{directory}: logits in transformers"
        model.generate(torch.tensor([tokens]), max_new_tokens=5)


def check_models(bdh, folder):
    (folder / "text.txt").write_text(TEXT)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    command = Command(bdh, folder)
    for directory in train(command, folder, "plain"):
        check_directory(command, directory, None)
    for directory in train(command, folder, "horizon", "--horizon", HORIZON):
        check_directory(command, directory, HORIZON)
    for directory in train(command, folder, "huggingface", "--huggingface"):
        check_transformers(command, directory)


def check(arguments):
    assert GOLDEN.read_bytes() == golden_bytes(), f"{GOLDEN.name}: the package writes other bytes now"
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        subprocess.run([arguments.tests, "-tc=parity: write training files*"], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "BDH_PARITY_TRAINING": directory})
        check_run(folder / "events")
        check_models(arguments.bdh, folder)
    print("training files: the package's own bytes; it reads a run that was killed and resumed; nine model directories of "
          "bdh train load in PyTorch or transformers with the same logits")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "write"])
    parser.add_argument("--bdh", type=pathlib.Path, help="the bdh program")
    parser.add_argument("--tests", help="the bdh_tests program")
    arguments = parser.parse_args()
    if arguments.action == "write":
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_bytes(golden_bytes())
        return
    if not arguments.tests or not arguments.bdh:
        parser.error("check needs --bdh build/bdh --tests build/bdh_tests")
    check(arguments)


if __name__ == "__main__":
    sys.exit(main())
