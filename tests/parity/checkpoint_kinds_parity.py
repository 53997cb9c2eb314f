"""Checkpoints that hold any object in any place beside the weights: bdh loads them or says in one line why not, and runs nothing.

    python checkpoint_kinds_parity.py check --tests build/bdh_tests [--kinds 200 --seed N --keep DIRECTORY]

What torch.load(weights_only=True) loads bdh must load, with the logits of the plain checkpoint; no valid file may be called damaged.
"""
import argparse
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import json
import math
import operator
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import types
import uuid
import warnings
import weakref

import numpy
import torch

from dialects_parity import CONFIG_KEYS, CONFIGS, PREFIXES, WRAPPERS, drawn, forward, prefixed, reference, relative_difference
import dialects_parity

AT_ONCE = 250  # files in one process
SAME = 5e-5  # the models are drawn: some magnify rounding


# --- classes of the objects

class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Flags(enum.IntFlag):
    ONE = 1
    TWO = 2


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Data:
    name: str
    value: object = None


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    name: str
    value: object = None


class Reduced:
    """Made by a call, then given a state, items and entries."""

    def __init__(self, *values):
        self.values = values

    def __reduce__(self):
        return Reduced, self.values, {"note": "kept"}


class Filled(dict):
    def __reduce__(self):
        return Filled, (), {"a": 1}, None, iter(self.items())

    def append(self, value):
        pass


class Listed(list):
    def __reduce_ex__(self, protocol):
        return Listed, (), ("any", "state"), iter(self)


class Stated:
    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        return [self.value, "no dictionary"]

    def __setstate__(self, state):
        self.value = state[0]


class Slots:
    __slots__ = ("a", "__dict__")


class NewArguments(tuple):
    def __new__(cls, *values, key=None):
        return super().__new__(cls, values)

    def __getnewargs_ex__(self):
        return tuple(self), {"key": "word"}


class Singleton:
    def __reduce__(self):
        return "SINGLETON"


SINGLETON = Singleton()


class Subclass(torch.Tensor):
    pass


class Outer:
    class Inner:
        pass

    @staticmethod
    def method():
        pass


class OrderedSubclass(collections.OrderedDict):
    pass


named_lambda = lambda x: x  # noqa: E731
named_lambda.__qualname__ = "named_lambda"

MARKER = None  # where what is executed leaves a trace


class Evil:
    """Its pickle runs a command when it is loaded by a program that makes calls."""

    def __init__(self, how, state=None, items=None, entries=None):
        self.how, self.rest = how, (state, items, entries)

    def __reduce__(self):
        write = f"open({str(MARKER)!r}, 'w').close()"
        call = {"system": (os.system, (f"touch {MARKER}",)), "eval": (eval, (write,)), "exec": (exec, (write,)), "open": (open, (str(MARKER), "w")),
                "popen": (subprocess.Popen, (["touch", str(MARKER)],)), "touch": (pathlib.Path.touch, (pathlib.PurePosixPath(str(MARKER)),)),
                "getattr": (getattr, (operator.methodcaller("system", f"touch {MARKER}"), "__call__"))}[self.how]
        state, items, entries = self.rest
        return (*call, state, iter(items) if items is not None else None, iter(entries.items()) if entries is not None else None)


def evil(draw, **rest):
    return Evil(draw.choice(("system", "eval", "exec", "open", "popen", "touch", "getattr")), **rest)


# --- objects

def text(draw):
    return draw.choice(("", "größe", "a" * 300, "\ud800 alone", "\udcff", "nul\0inside", "🐉", "line\nbreak", "encoder", "\u2028"))


def number(draw):
    return draw.choice((0, -1, 2**31, -2**31 - 1, 2**63, 2**64, -2**63, -2**63 - 1, 10**5000, -10**300, 1e308, math.inf, -math.inf, math.nan, 5e-324, -0.0, True, None, ...,
                        NotImplemented, 3 - 4j, complex(math.nan, math.inf)))


def array(draw):
    kind = draw.choice(("f4", "f8", "i8", "u1", "?", "c8", "S5", "U4", "M8[s]", ">f4", "O", "f2", "V3", "struct", "empty", "scalar", "fortran", "masked", "strided"))
    made = {"struct": lambda: numpy.zeros(3, dtype=[("a", "i4"), ("b", "f8", (2,))]), "empty": lambda: numpy.zeros((0, 3)), "O": lambda: numpy.array([1, "x", None, [2]], dtype=object),
            "scalar": lambda: draw.choice((numpy.float32, numpy.int64, numpy.bool_, numpy.complex128, numpy.float16, numpy.str_, numpy.datetime64))(1)
            if draw.random() < 0.8 else numpy.bytes_(b"x"),
            "fortran": lambda: numpy.asfortranarray(numpy.ones((2, 3))), "masked": lambda: numpy.ma.array([1, 2, 3], mask=[0, 1, 0]), "strided": lambda: numpy.arange(20)[::3]}
    return made[kind]() if kind in made else numpy.zeros(draw.choice((0, 1, 3, 300)), dtype=kind)


def random_state(draw):
    return draw.choice((lambda: numpy.random.RandomState(1), lambda: numpy.random.default_rng(1), lambda: numpy.random.get_state(), lambda: numpy.random.PCG64(3),
                        lambda: numpy.random.default_rng(1).bit_generator.state, lambda: random.getstate(), lambda: random.Random(3), torch.get_rng_state,
                        lambda: numpy.random.SeedSequence(5), lambda: numpy.random.Philox(1)))()


def collection(draw):
    return draw.choice((lambda: collections.Counter("letters"), lambda: collections.defaultdict(list, a=[1]), lambda: collections.deque([1, 2], 5), lambda: {1, "a", None},
                        lambda: frozenset((1, (2, 3))), lambda: collections.ChainMap({"a": 1}, {}), lambda: range(3, 9, 2), lambda: slice(1, None, 2), lambda: collections.OrderedDict(a=1),
                        lambda: OrderedSubclass(a=1), lambda: collections.UserDict(a=1), lambda: types.MappingProxyType, lambda: {1: 2, 2.5: "x", None: 1, (1, 2): 3, b"k": 4, Colour.RED: 5, "\ud800": 6},
                        lambda: iter([1, 2, 3]), lambda: enumerate("ab"), lambda: set(), lambda: frozenset(), lambda: [set(), [], (), {}], lambda: map(str, [1]), lambda: zip([1], [2])))()


def value(draw):
    return draw.choice((lambda: b"\0\xff" * draw.choice((0, 1, 200)), lambda: bytearray(b"abc" * draw.choice((0, 1, 200))), lambda: decimal.Decimal("1.50"), lambda: fractions.Fraction(2, 3),
                        lambda: datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), lambda: datetime.date(2026, 1, 2), lambda: datetime.timedelta(3, 4, 5), lambda: pathlib.PurePosixPath("a/b"),
                        lambda: pathlib.Path("/x"), lambda: pathlib.PureWindowsPath("c:/x"), lambda: Colour.RED, lambda: Flags.ONE | Flags.TWO, lambda: Point(1, [2]), lambda: uuid.UUID(int=5),
                        lambda: datetime.timezone(datetime.timedelta(hours=2)), lambda: ValueError("x", 1), lambda: type(None), lambda: int, lambda: numpy.float32, lambda: numpy.dtype("f4")))()


def instance(draw):
    slots = Slots()
    slots.a, slots.b = [1], 2
    return draw.choice((lambda: Data("x", object()), lambda: Slotted("x", Data("y")), lambda: Reduced(1, "b"), lambda: Filled(a=1, b=2), lambda: Listed([1, 2]), lambda: Stated(3), lambda: slots,
                        lambda: NewArguments(1, 2, key=3), lambda: SINGLETON, lambda: Outer.Inner(), lambda: Outer.Inner, lambda: argparse.Namespace(a=1), lambda: types.SimpleNamespace(b=[2]),
                        object))()


def function(draw):
    return draw.choice((lambda: named_lambda, lambda: functools.partial(max, 1, key=abs), lambda: len, lambda: os.path.join, lambda: operator.itemgetter("a", 2), lambda: operator.attrgetter("b.c"),
                        lambda: torch.nn.functional.relu, lambda: torch.relu, lambda: Outer.method, lambda: [].append, lambda: str.upper, lambda: torch.optim.AdamW, lambda: operator.methodcaller("x", 1),
                        lambda: functools.partial(torch.nn.Linear, 2)))()


def torch_constant(draw):
    return draw.choice((lambda: torch.Size([2, 3]), lambda: torch.float16, lambda: torch.device("cuda", 1), lambda: torch.device("cpu"), lambda: torch.strided, lambda: torch.channels_last,
                        lambda: torch.Generator(), lambda: torch.Generator().get_state(), lambda: torch.per_tensor_affine, lambda: torch.finfo, lambda: torch.sparse_coo, lambda: torch.__version__))()


def tensor(draw):
    ones = torch.ones(2, 3)
    return draw.choice((
        lambda: torch.eye(3).to_sparse(), lambda: torch.eye(3).to_sparse_csr(), lambda: torch.eye(4).to_sparse_bsr((2, 2)), lambda: torch.eye(3).to_sparse_csc(),
        lambda: torch.quantize_per_tensor(ones, 0.1, 3, torch.qint8), lambda: torch.quantize_per_channel(ones, torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.quint8),
        lambda: torch.empty(2, 3, device="meta"), lambda: torch.ones(2, dtype=torch.complex64), lambda: torch.ones(2, dtype=torch.complex64).conj(),
        lambda: torch.ones(2, dtype=torch.complex64).conj().imag, lambda: torch.nested.nested_tensor([ones, ones[:1]]),
        lambda: torch.nested.nested_tensor([ones, ones[:1]], layout=torch.jagged), lambda: torch.nn.Parameter(ones), lambda: torch.nn.Buffer(ones), lambda: ones.as_subclass(Subclass),
        lambda: torch.nn.Parameter(ones.as_subclass(Subclass)), lambda: noted(ones), lambda: torch.zeros(0), lambda: torch.tensor(3), lambda: ones.expand(4, 2, 3), lambda: ones.t(), lambda: ones[:, 1:],
        lambda: torch.ones(3, dtype=draw.choice((torch.float8_e4m3fn, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.bool, torch.float8_e5m2fnuz, torch.complex32, torch.float64))),
        lambda: ones.untyped_storage(), lambda: torch.FloatStorage([1, 2]), lambda: ones.storage(), lambda: torch.nn.UninitializedParameter(),
        lambda: torch.empty(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), lambda: torch.masked.masked_tensor(ones, ones > 0), lambda: torch.nn.ParameterList([ones, ones])))()


def noted(given):
    given = given.clone()
    given.note = {"any": ["thing"]}
    return given


@functools.lru_cache(None)
def trained():
    layers = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizers = [torch.optim.AdamW(layers.parameters()), torch.optim.SGD(layers.parameters(), 0.1, momentum=0.9), torch.optim.Adagrad(layers.parameters()), torch.optim.RMSprop(layers.parameters()),
                  torch.optim.AdamW(layers.parameters(), lr=torch.tensor(1e-3), foreach=False)]
    for optimizer in optimizers:
        layers(torch.randn(4, 3)).sum().backward()
        optimizer.step()
    schedule = torch.optim.lr_scheduler
    made = [schedule.CosineAnnealingLR(optimizers[0], 10), schedule.OneCycleLR(optimizers[1], 0.1, 10), schedule.ReduceLROnPlateau(optimizers[0]), schedule.StepLR(optimizers[2], 3),
            schedule.LambdaLR(optimizers[3], named_lambda), schedule.SequentialLR(optimizers[2], [schedule.StepLR(optimizers[2], 2), schedule.ConstantLR(optimizers[2])], [3])]
    return layers, optimizers, made


def training(draw):
    layers, optimizers, schedulers = trained()
    return draw.choice((lambda: draw.choice(optimizers).state_dict(), lambda: draw.choice(schedulers).state_dict(), lambda: draw.choice(schedulers), lambda: draw.choice(optimizers),
                        lambda: torch.amp.GradScaler("cpu").state_dict(), lambda: torch.amp.GradScaler("cpu"), lambda: torch.optim.swa_utils.AveragedModel(layers).state_dict(),
                        lambda: torch.optim.swa_utils.AveragedModel(layers), lambda: layers, lambda: torch.nn.LSTM(2, 3), lambda: torch.nn.TransformerEncoderLayer(4, 2), lambda: layers.state_dict(),
                        lambda: torch.nn.DataParallel(layers), lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)).state_dict(), lambda: torch.nn.CrossEntropyLoss(),
                        lambda: torch.distributions.Normal(0.0, 1.0), lambda: torch.utils.data.TensorDataset(torch.ones(2)), lambda: torch.nn.ParameterDict({"a": torch.ones(2)}), lambda: torch.nn.Linear))()


def odd(draw):
    def deep(step, count):
        return functools.reduce(lambda inner, _: step(inner), range(count), 0)

    loop = [1]
    loop.append(loop)
    ring = {}
    ring["self"] = ring
    pair = ([],)
    pair[0].append(pair)
    both = Data("a")
    both.value = Data("b", both)
    shared = [1, 2]
    return draw.choice((lambda: loop, lambda: ring, lambda: pair, lambda: both, lambda: [shared, shared, {"again": shared}], lambda: deep(lambda inner: (inner,), 150), lambda: deep(lambda inner: [inner], 150),
                        lambda: deep(lambda inner: {"a": inner}, 100), lambda: deep(lambda inner: (inner, inner, 1, 2), 25), lambda: tuple(range(20_000)), lambda: list(range(5000)),
                        lambda: {str(i): i for i in range(3000)}, lambda: [[]] * 2000, lambda: copy.deepcopy(ring), lambda: collections.OrderedDict(weakref.WeakKeyDictionary()), lambda: [(i, i / 3) for i in range(2000)]))()


FAMILIES = (text, number, array, random_state, collection, value, instance, function, torch_constant, tensor, training, odd, evil)


def drawn_object(draw):
    while True:
        try:
            return draw.choice(FAMILIES)(draw)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):  # this PyTorch has no such thing
            pass


def placed(draw, depth):
    """An object in something in something, `depth` times."""
    held = drawn_object(draw)
    for _ in range(depth):
        held = draw.choice((lambda x: [x, 1], lambda x: (x,), lambda x: (1, x, "b", x), lambda x: {"inner": x}, lambda x: collections.OrderedDict(inner=x), lambda x: collections.defaultdict(list, inner=x),
                            lambda x: Data("holder", x), lambda x: Slotted("holder", x), lambda x: types.SimpleNamespace(held=x), lambda x: collections.deque([x]), lambda x: Reduced(x),
                            lambda x: Listed([x]), lambda x: Filled(held=x), lambda x: Stated(x), lambda x: Point(x, 2), lambda x: functools.partial(max, x), lambda x: evil(draw, state={"a": x}),
                            lambda x: evil(draw, items=[x]), lambda x: evil(draw, entries={"a": x})))(held)
    return held


# --- checkpoints

KEYS = ("optimizer", "optimizer_state_dict", "scheduler", "scaler", "rng_state", "random", "history", "epoch", "step", "best", "meta", "callbacks", "ema", "tokenizer", "losses", "git", "loader", "extra", "größe", "\ud801",
        "encoder_note", "path", "metrics", "stoi", "loss")
OTHER_KEYS = (0, -5, 2.5, None, (1, "a"), b"bytes", True, Colour.BLUE, frozenset((1,)), Point(1, 2))


def dressed(draw, state):
    """The same weights as other kinds of tensors, in another kind of dictionary."""
    def one(given):
        return draw.choice((lambda t: t, torch.nn.Parameter, lambda t: torch.nn.Parameter(t, requires_grad=False), torch.nn.Buffer, lambda t: t.as_subclass(Subclass), noted, lambda t: noted(torch.nn.Parameter(t)),
                            lambda t: t.transpose(0, -1).contiguous().transpose(0, -1), lambda t: torch.cat((t, t))[:len(t)], lambda t: t.double()))(given)
    if draw.random() < 0.4:
        state = {name: one(given) for name, given in state.items()}
    return draw.choice((dict, collections.OrderedDict, OrderedSubclass, dict, lambda s: collections.defaultdict(list, s), dialects_parity.AttributeDict))(state)


def with_objects(draw, members, most):
    items = list(members.items())
    for _ in range(draw.randint(1, most)):
        key = draw.choice(KEYS) if draw.random() < 0.85 else draw.choice(OTHER_KEYS)
        if key not in members:
            items.append((key, placed(draw, draw.choice((0, 0, 1, 1, 2, 3, 6)))))
    draw.shuffle(items)
    return dict(items)


def checkpoint(draw, model):
    state = dressed(draw, prefixed(draw.choice(PREFIXES), reference(model)))
    config = {draw.choice(CONFIG_KEYS): CONFIGS[draw.choice(list(CONFIGS))](model.config())}
    plain = next(iter(config.values()))
    if isinstance(plain, dict) and draw.random() < 0.5:
        plain.update({draw.choice(("dtype", "device", "note", "optimizer", "betas", "path", "schedule")): placed(draw, draw.choice((0, 1))) for _ in range(2)})
    shape = draw.choice(("wrapped", "wrapped", "wrapped", "flat", "whole", "object", "twice", "around", "within", "evil_config", "evil_state"))
    if shape == "flat":
        return with_objects(draw, {**state, **config}, 4)
    if shape == "whole":
        module = dialects_parity.BDH(model, next(iter(config.values())))
        module.extra = placed(draw, draw.choice((0, 1, 2)))
        return module if draw.random() < 0.5 else with_objects(draw, {"model": module}, 3)
    if shape == "within":
        state = type(state)(state) if type(state) is not collections.defaultdict else dict(state)
        state[draw.choice(("note", "_extra_state", "version", "attn._extra_state"))] = placed(draw, draw.choice((0, 1)))
    wrapper, others = draw.choice(WRAPPERS), draw.sample(WRAPPERS, 2)
    decoys = {key: placed(draw, 0) if WRAPPERS.index(key) > WRAPPERS.index(wrapper) else draw.choice((value, number, function, collection))(draw) for key in others if key != wrapper}
    decoys.update({key: item for key, item in (("args", placed(draw, 0)), ("cfg", None), ("hparams", placed(draw, 1))) if draw.random() < 0.2 and key not in config})
    found = with_objects(draw, {wrapper: state, **config, **decoys}, 5)
    if shape == "twice":
        return with_objects(draw, {draw.choice(("state_dict", "model", "model_state")): found}, 2)
    if shape == "object":
        plain = {key: item for key, item in found.items() if isinstance(key, str) and "\ud801" not in key}
        return draw.choice((types.SimpleNamespace(**plain), Filled(plain), collections.OrderedDict(found), argparse.Namespace(**plain)))
    if shape == "around":
        return evil(draw, **draw.choice(({"state": found}, {"entries": found}, {"items": [found]})))
    if shape == "evil_state":
        found[wrapper] = evil(draw, **draw.choice(({"entries": state}, {"state": dict(state)})))
    if shape == "evil_config":
        found["config"] = {**model.config(), "note": evil(draw)}
    return found


def save(draw, saved, path):
    """Whether torch.save takes it."""
    try:
        torch.save(saved, path, pickle_protocol=draw.choice((2, 2, 3, 4, 5)), _use_new_zipfile_serialization=draw.random() < 0.7)
        return True
    except Exception:  # noqa: BLE001 - pickle raises what it likes
        path.unlink(missing_ok=True)
        return False


def loads_weights_only(path):
    try:
        torch.load(path, map_location="cpu", weights_only=True)
        return True
    except Exception:  # noqa: BLE001
        return False


# --- check

def answers_of(tests, directory):
    done = subprocess.run([tests, "-tc=parity: checkpoints"], capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ, "BDH_PARITY_CHECKPOINTS": str(directory)})
    if done.returncode != 0:
        sys.exit(f"checkpoint kinds: bdh_tests ended with {done.returncode} in {directory}:\n{(done.stdout + done.stderr).decode()[-4000:]}")
    return json.loads((directory / "answers.json").read_text())


def judged(answer, want, path):
    """Whether it was loaded, and what is wrong."""
    if isinstance(answer, list):
        apart = relative_difference(torch.tensor(answer), want)
        return True, "" if apart <= SAME else f"logits {apart:.1e} apart"
    if answer is None:
        return False, "no answer"
    if "\n" in answer or not answer or "damaged" in answer:
        return False, f"said {answer!r}"
    return False, f"torch.load(weights_only=True) loads it, bdh says {answer!r}" if loads_weights_only(path) else ""


def check_some(tests, draw, model, want, numbers, directory, keep):
    paths = [path for path in (directory / f"{number}.pt" for number in numbers) if save(draw, checkpoint(draw, model), path)]
    MARKER.unlink(missing_ok=True)
    answers, loaded, refusals, bad = answers_of(tests, directory), 0, collections.Counter(), []
    if MARKER.exists():
        bad.append("something was executed")
    for path in paths:
        answer = answers.get(path.name)
        was_loaded, wrong = judged(answer, want, path)
        loaded += was_loaded
        if not was_loaded:
            refusals[str(answer).replace(str(path), "FILE")[:150]] += 1
        if wrong:
            bad.append(f"{path.name}: {wrong}")
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / path.name).write_bytes(path.read_bytes())
        path.unlink()
    return len(paths), loaded, refusals, bad


def wanted(model):
    """Logits after the tokens that the other side reads."""
    tokens = [(i * i * 7 + 3 * i + 1) % dialects_parity.VOCAB for i in range(7)]
    return forward(model, tokens=tokens)[-1]


def check(tests, draw, kinds, keep):
    global MARKER
    warnings.simplefilter("ignore")
    model = drawn(draw)
    want, files, loaded, refusals, bad = wanted(model), 0, 0, collections.Counter(), []
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        MARKER = directory / "executed"
        for first in range(0, kinds, AT_ONCE):
            more = check_some(tests, draw, model, want, range(first, min(first + AT_ONCE, kinds)), directory, keep)
            files, loaded, refusals, bad = files + more[0], loaded + more[1], refusals + more[2], bad + more[3]
    for line in bad[:40]:
        print("FAILED:", line)
    if keep:
        for line, count in refusals.most_common(25):
            print(f"{count} refused: {line}")
    print(f"checkpoint kinds: {files} checkpoints, {loaded} loaded with the same logits, {files - loaded} refused in one line, nothing executed; {len(bad)} failures")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check"])
    parser.add_argument("--tests", required=True, help="the bdh_tests program")
    parser.add_argument("--kinds", type=int, default=200)
    parser.add_argument("--keep", type=pathlib.Path, help="keep files that fail here, and list refusals")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    arguments = parser.parse_args()
    print(f"checkpoint kinds: seed {arguments.seed}")
    torch.manual_seed(arguments.seed)
    return check(arguments.tests, random.Random(arguments.seed), arguments.kinds, arguments.keep)


if __name__ == "__main__":
    sys.exit(main())
