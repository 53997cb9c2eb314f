"""bdh in Python: what bdh_c.h declares, through ctypes and nothing else.

    import bdh
    model = bdh.Model("DIR")
    session = model.session()
    for piece in session.stream("ROMEO:", max_new_tokens=100):
        print(piece, end="", flush=True)

Failures are raised as bdh.Error. BDH_LIBRARY names another libbdh.so than the one that was installed with this file.
"""

import array
import ctypes
import glob
import json
import os
import queue
import threading
from ctypes import (CFUNCTYPE, POINTER, Structure, byref, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64,
                    c_size_t, c_uint64, c_void_p, sizeof)

_LIBRARY = "libbdh.so.0"


def _load():
    libraries = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    places = [os.environ.get("BDH_LIBRARY"), os.path.join(libraries, _LIBRARY),
              *glob.glob(os.path.join(glob.escape(libraries), "*", _LIBRARY))]
    return ctypes.CDLL(next((place for place in places if place and os.path.exists(place)), _LIBRARY))


_lib = _load()
_lib.bdh_last_error.restype = c_char_p
_lib.bdh_version.restype = c_char_p
_lib.bdh_model_free.argtypes = [c_void_p]
_lib.bdh_model_free.restype = None
_lib.bdh_session_free.argtypes = [c_void_p]
_lib.bdh_session_free.restype = None

__version__ = _lib.bdh_version().decode()

STATUSES = ("ok", "invalid argument", "not found", "io", "bad file", "unsupported", "out of memory", "cancelled", "internal",
            "busy")
FINISHES = ("length", "eos", "stop", "cancelled")
_CANCELLED = 7
_WARNING = CFUNCTYPE(None, c_void_p, c_char_p)
_RELEASE = CFUNCTYPE(None, c_void_p)
_TEXT = CFUNCTYPE(c_int, c_void_p, POINTER(c_char), c_size_t)
_TOKEN = CFUNCTYPE(c_int, c_void_p, c_int32, c_double)
_PROMPT = CFUNCTYPE(c_int, c_void_p, c_int64, c_int64)


class Error(RuntimeError):
    """What failed and what to do about it; `status` is one of STATUSES."""

    def __init__(self, status):
        super().__init__(_lib.bdh_last_error().decode(errors="replace"))
        self.status = STATUSES[status]


class DeviceInfo(Structure):
    _fields_ = [("name", c_char * 32), ("description", c_char * 224)]


class _LoadOptions(Structure):
    _fields_ = [("size", c_size_t), ("device", c_char_p), ("dtype", c_char_p), ("threads", c_int32), ("strict", c_int32),
                ("verify", c_int32), ("reserved", c_int32), ("on_warning", _WARNING), ("user", c_void_p)]


class _Adapter(Structure):
    _fields_ = [("path", c_char_p), ("scale", c_double)]


class _Buffers(Structure):
    _fields_ = [("size", c_size_t), ("weights", c_void_p), ("weights_size", c_size_t), ("release", _RELEASE),
                ("user", c_void_p), ("config", c_char_p), ("config_size", c_size_t), ("generation_config", c_char_p),
                ("generation_config_size", c_size_t), ("tokenizer", c_char_p), ("tokenizer_size", c_size_t)]


class ModelInfo(Structure):
    _fields_ = [(name, c_int64) for name in (
        "n_layer", "n_embd", "n_head", "mlp_internal_dim_multiplier", "vocab_size", "neurons_per_head", "parameters",
        "tokenizer_vocab_size", "bos_token", "eos_token", "block_size", "weight_bits", "packed")] + [("dtype", c_char * 8)]


class MemoryInfo(Structure):
    _fields_ = [(name, c_uint64) for name in ("weights", "session", "working", "peak_resident", "session_bf16")]


class _Read(Structure):
    _fields_ = [("session", c_void_p), ("tokens", c_void_p), ("count", c_size_t), ("logits", c_void_p),
                ("capacity", c_size_t), ("which", c_int32), ("reserved", c_int32)]


class _GenerationOptions(Structure):
    _fields_ = [("size", c_size_t), ("max_new_tokens", c_int64), ("max_length", c_int64), ("min_new_tokens", c_int64),
                ("min_length", c_int64), ("no_repeat_ngram_size", c_int64), ("top_k", c_int64), ("seed", c_uint64),
                ("temperature", c_float), ("top_p", c_float), ("min_p", c_float), ("typical_p", c_float),
                ("epsilon_cutoff", c_float), ("eta_cutoff", c_float), ("repetition_penalty", c_float),
                ("do_sample", c_int32), ("stop", POINTER(c_char_p)), ("stop_count", c_size_t), ("on_text", _TEXT),
                ("on_token", _TOKEN), ("on_prompt", _PROMPT), ("user", c_void_p)]


class GenerationResult(Structure):
    """finish is an index into FINISHES; `text` is added by Session.generate."""
    _fields_ = [("finish", c_int32), ("exhausted", c_int32), ("prompt_tokens", c_int64), ("new_tokens", c_int64),
                ("prompt_seconds", c_double), ("text_seconds", c_double)]


_LOGITS = {"none": 0, "last": 1, "all": 2}


def _check(status):
    if status:
        raise Error(status)


def _filled(function, struct, *before):
    value = struct()
    _check(function(*before, byref(value), c_size_t(sizeof(struct))))
    return value


def _bytes_of(function, *before):
    size = c_size_t()
    _check(function(*before, None, c_size_t(0), byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(function(*before, buffer, size, byref(size)))
    return buffer.raw[:size.value]


def _encoded(text):
    return text.encode() if isinstance(text, str) else bytes(text)


def _tokens(tokens):
    return (c_int32 * len(tokens))(*tokens)


def devices():
    """Names and descriptions of the devices that can be used."""
    count = c_size_t()
    _check(_lib.bdh_device_count(byref(count)))
    found = [_filled(_lib.bdh_device_get_info, DeviceInfo, c_size_t(index)) for index in range(count.value)]
    return {info.name.decode(): info.description.decode() for info in found}


def _options(model, settings):
    """_GenerationOptions, and what must live as long as they are used."""
    options = _filled(_lib.bdh_generation_options_defaults, _GenerationOptions, model)
    stop = settings.pop("stop", None)
    for name, value in settings.items():
        if not hasattr(options, name):
            raise TypeError(f"there is no option {name!r}")
        setattr(options, name, value)
    if stop is None:
        return options, None
    strings = (c_char_p * max(1, len(stop)))(*[_encoded(string) for string in stop])
    options.stop, options.stop_count = strings, len(stop)
    return options, strings


def sample(logits, step=0, history=(), model=None, **settings):
    """A token drawn for logits of one vocabulary, as generate draws it."""
    options, _kept = _options(model._handle if model else None, settings)
    values = (c_float * len(logits))(*logits)
    token = c_int32()
    _check(_lib.bdh_sample(values, c_size_t(len(values)), byref(options), _tokens(history), c_size_t(len(history)),
                           c_uint64(step), byref(token)))
    return token.value


class Model:
    """A model directory or weights file; or, with weights and config, the bytes of model.safetensors and config.json."""

    def __init__(self, path=None, *, weights=None, config=None, generation_config=None, tokenizer=None, device=None,
                 dtype=None, threads=0, strict=False, verify=False, on_warning=None):
        self._handle = c_void_p()
        options = _filled(_lib.bdh_load_options_defaults, _LoadOptions)
        options.device = device.encode() if device else None
        options.dtype = dtype.encode() if dtype else None
        options.threads, options.strict, options.verify = threads, strict, verify
        if on_warning:
            options.on_warning = _WARNING(lambda _, message: on_warning(message.decode(errors="replace")))
        if path is not None:
            _check(_lib.bdh_model_load(os.fsencode(path), byref(options), byref(self._handle)))
        else:
            self._load_buffers(options, weights, config, generation_config, tokenizer)

    def _load_buffers(self, options, weights, config, generation_config, tokenizer):
        self._weights = bytes(weights)  # sessions hold this object, too
        buffers = _filled(_lib.bdh_model_buffers_defaults, _Buffers)
        buffers.weights = ctypes.cast(self._weights, c_void_p)
        buffers.weights_size = len(self._weights)
        for name, text in (("config", config), ("generation_config", generation_config), ("tokenizer", tokenizer)):
            if text is not None:
                data = _encoded(text)
                setattr(buffers, name, data)
                setattr(buffers, name + "_size", len(data))
        _check(_lib.bdh_model_load_buffers(byref(buffers), byref(options), byref(self._handle)))

    def merged(self, *adapters):
        """A new model with LoRA adapters in its weights; each is a directory or file, or one and how much of it."""
        return self._with(_lib.bdh_model_merge_adapters, adapters)

    def adapted(self, *adapters):
        """The same with the adapters beside the weights, which both models share, quantized or not."""
        return self._with(_lib.bdh_model_apply_adapters, adapters)

    def _with(self, make, adapters):
        pairs = [one if isinstance(one, tuple) else (one, 1.0) for one in adapters]
        array = (_Adapter * len(pairs))(*(_Adapter(os.fsencode(path), scale) for path, scale in pairs))
        model = Model.__new__(Model)
        model._handle, model._base = c_void_p(), self
        _check(make(self._handle, array, c_size_t(len(pairs)), byref(model._handle)))
        return model

    def __del__(self):
        if getattr(self, "_handle", None):
            _lib.bdh_model_free(self._handle)

    @property
    def info(self):
        return _filled(_lib.bdh_model_get_info, ModelInfo, self._handle)

    @property
    def config(self):
        return json.loads(_bytes_of(_lib.bdh_model_config, self._handle))

    @property
    def metadata(self):
        return json.loads(_bytes_of(_lib.bdh_model_metadata, self._handle))

    def memory(self, tokens=1):
        """Bytes needed; working: while so many tokens are read at once."""
        return _filled(_lib.bdh_model_get_memory, MemoryInfo, self._handle, c_size_t(tokens))

    def tokenize(self, text, special_tokens=False):
        data = _encoded(text)
        count = c_size_t()
        before = (self._handle, data, c_size_t(len(data)), c_int32(special_tokens))
        _check(_lib.bdh_tokenize(*before, None, c_size_t(0), byref(count)))
        tokens = (c_int32 * count.value)()
        _check(_lib.bdh_tokenize(*before, tokens, count, byref(count)))
        return list(tokens)

    def detokenize(self, tokens, special_tokens=False):
        """Bytes: they need not be whole characters."""
        return _bytes_of(_lib.bdh_detokenize, self._handle, _tokens(tokens), c_size_t(len(tokens)),
                         c_int32(special_tokens))

    def piece(self, token):
        return _bytes_of(_lib.bdh_token_to_piece, self._handle, c_int32(token))

    def session(self):
        handle = c_void_p()
        _check(_lib.bdh_session_new(self._handle, byref(handle)))
        return Session(self, handle)


class Session:
    """One sequence: model.session() makes it."""

    def __init__(self, model, handle):
        self.model = model
        self._handle = handle

    def __del__(self):
        if getattr(self, "_handle", None):
            _lib.bdh_session_free(self._handle)

    def clone(self):
        handle = c_void_p()
        _check(_lib.bdh_session_clone(self._handle, byref(handle)))
        return Session(self.model, handle)

    def reset(self):
        _check(_lib.bdh_session_reset(self._handle))

    def set_horizon(self, horizon):
        """Forgets everything read. Tokens, one for each head or one for all; an empty list: none."""
        _check(_lib.bdh_session_set_horizon(self._handle, (c_float * len(horizon))(*horizon), c_size_t(len(horizon))))

    def set_state_dtype(self, dtype):
        """Forgets everything read. "f32", or "bf16": half the memory, read faster, rounded."""
        _check(_lib.bdh_session_set_state_dtype(self._handle, c_char_p(dtype.encode())))

    @property
    def position(self):
        position = c_int64()
        _check(_lib.bdh_session_get_position(self._handle, byref(position)))
        return position.value

    def read(self, tokens, logits="last"):
        """Logits as array('f'): of the "last" token, of "all", one after the other, or "none"."""
        return read_batch([(self, tokens, logits)])[0]

    def save(self, path=None):
        """To a file, or as the bytes that are returned."""
        if path is None:
            return _bytes_of(_lib.bdh_session_save_buffer, self._handle)
        _check(_lib.bdh_session_save(self._handle, os.fsencode(path)))
        return None

    def restore(self, kept):
        """From a path, or from bytes."""
        if isinstance(kept, (bytes, bytearray)):
            _check(_lib.bdh_session_restore_buffer(self._handle, bytes(kept), c_size_t(len(kept))))
        else:
            _check(_lib.bdh_session_restore(self._handle, os.fsencode(kept)))

    def generate(self, prompt, on_text=None, on_token=None, on_prompt=None, **settings):
        """Continues the prompt: a GenerationResult, whose `text` is the text. Settings are those of
        bdh_generation_options. Callbacks that return False cancel, which is a finish and no error; what they raise
        is raised here."""
        pieces, raised = [], []

        def guarded(callback):
            def call(*values):
                try:
                    return 0 if callback(*values[1:]) is False else 1
                except BaseException as exception:  # no exception may pass through C
                    raised.append(exception)
                    return 0
            return call

        def take(text, length):
            pieces.append(ctypes.string_at(text, length).decode())
            return on_text(pieces[-1]) if on_text else True

        options, _kept = _options(self.model._handle, settings)
        options.on_text = _TEXT(guarded(take))
        if on_token:
            options.on_token = _TOKEN(guarded(on_token))
        if on_prompt:
            options.on_prompt = _PROMPT(guarded(on_prompt))
        data = _encoded(prompt)
        result = GenerationResult()
        status = _lib.bdh_generate(self._handle, data, c_size_t(len(data)), byref(options), byref(result),
                                   c_size_t(sizeof(result)))
        if raised:
            raise raised[0]
        if status != _CANCELLED:
            _check(status)
        result.text = "".join(pieces)
        return result

    def stream(self, prompt, **settings):
        """The text piece by piece; another thread generates it meanwhile. Closed early, it cancels."""
        pieces = queue.Queue(maxsize=16)
        ended = threading.Event()
        failures = []

        def put(piece):
            while not ended.is_set():
                try:
                    pieces.put(piece, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def run():
            try:
                self.generate(prompt, on_text=put, **settings)
            except BaseException as exception:
                failures.append(exception)
            put(None)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield from iter(pieces.get, None)
        finally:
            ended.set()
            thread.join()
        if failures:
            raise failures[0]


def read_batch(reads):
    """Reads (session, tokens, "last" | "all" | "none") together; their logits, in order."""
    structs = (_Read * len(reads))()
    outputs, kept = [], []
    for struct, (session, tokens, which) in zip(structs, reads):
        rows = {"none": 0, "last": 1, "all": len(tokens)}[which]
        logits = array.array("f", bytes(4 * rows * session.model.info.vocab_size))
        numbers = _tokens(tokens)
        kept.append(numbers)
        outputs.append(logits if rows else None)
        struct.session, struct.tokens, struct.count = session._handle, ctypes.addressof(numbers), len(tokens)
        struct.logits, struct.capacity, struct.which = logits.buffer_info()[0], len(logits), _LOGITS[which]
    _check(_lib.bdh_session_read_batch(structs, c_size_t(len(reads)), c_size_t(sizeof(_Read))))
    return outputs
