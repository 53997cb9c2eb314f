"""BDH ("Dragon Hatchling", arXiv 2509.26507) for Hugging Face transformers: model, memory between calls, generation.

Written for reading; knows nothing of files. The state_dict is the plain PyTorch model's: decoder (H*N, D), encoder (H, D, N),
encoder_v (H, D, N), lm_head (D, V), attn.freqs (1, 1, 1, N), embed.weight (V, D). Every layer uses the same weights.

Shapes: B batch, T tokens, D width, H heads, N neurons per head, L layers, V vocabulary.
"""
import math

import torch
from torch import nn
from torch.nn import functional
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_bdh import BDHConfig

CHUNK = 256  # tokens read at once when the memory is at hand; any number gives the same logits
INITIAL_STD = 0.02


def frequencies(neurons):
    """(1, 1, 1, N) float32, turns per token; the two neurons of a pair share one."""
    even = torch.arange(neurons, dtype=torch.float32).div(2, rounding_mode="floor") * 2
    return (1.0 / (65536 ** (even / neurons)) / (2 * math.pi)).view(1, 1, 1, neurons)


def norm(x):
    """LayerNorm over the last axis, without parameters."""
    return functional.layer_norm(x, x.shape[-1:])


class BDHCache:
    """What a model remembers of the tokens it has read: for each layer S (B, H, N, D) float32, and for each sequence how many
    tokens that were. Its size is constant, and it is changed by every call it is given to."""

    is_compileable = False

    def __init__(self):
        self.states = []  # L tensors, once something was read
        self.position = 0  # tokens read: (B, 1) int64, or one number for all sequences
        self.columns = 0  # columns of input_ids read, padding included

    def get_seq_length(self, layer_idx=0):
        return self.columns

    def reorder_cache(self, beam_idx):
        """Sequence i goes on from what sequence beam_idx[i] has read."""
        self.states = [state.index_select(0, beam_idx.to(state.device)) for state in self.states]
        if torch.is_tensor(self.position):
            self.position = self.position.index_select(0, beam_idx.to(self.position.device))

    def crop(self, *unused):
        raise NotImplementedError("BDH adds tokens up in its memory, so the last ones cannot be taken out again")


class BDHAttention(nn.Module):
    """Linear attention between neurons: strictly causal, no softmax; the values are the layer's input itself."""

    def __init__(self, neurons):
        super().__init__()
        self.register_buffer("freqs", frequencies(neurons))

    def _apply(self, fn, *arguments, **options):
        """Moves with the model, but stays float32: a phase rounded to 8 bits is another model."""
        exact = self.freqs
        super()._apply(fn, *arguments, **options)
        if self.freqs.dtype != exact.dtype:
            self.freqs = exact.to(self.freqs.device)
        return self

    def rotate(self, n, position):
        """Turns each pair of n (B, H, T, N) by its phase at position (B or 1, T); phases are rounded as float32."""
        angle = (position.to(torch.float32)[:, None, :, None] * self.freqs) % 1 * (2 * math.pi)
        partner = torch.stack((-n[..., 1::2], n[..., 0::2]), dim=-1).flatten(-2)
        return n * torch.cos(angle) + partner * torch.sin(angle)

    def forward(self, n, x, position, mask, state):
        """n (B, H, T, N), x (B, 1, T, D), mask (B, T) or None, state (B, H, N, D) or None -> (B, H, T, D) and the state after it.

        In float32: the sums grow with the text, beyond what half precision holds.
        """
        r, x = self.rotate(n.float(), position), x.float()
        if mask is not None:
            r = r * mask[:, None, :, None]
        attended = torch.tril(r @ r.transpose(-1, -2), diagonal=-1) @ x
        if state is None:
            return attended, None
        attended = attended + r @ state
        if torch.is_grad_enabled():
            return attended, state + r.transpose(-1, -2) @ x
        keys, values = r.transpose(-1, -2).flatten(0, 1), x.expand(-1, r.shape[1], -1, -1).flatten(0, 1)
        state.view(-1, *state.shape[-2:]).baddbmm_(keys, values)
        return attended, state


class BDHPreTrainedModel(PreTrainedModel):
    """The layers, without a head."""

    config_class = BDHConfig
    base_model_prefix = ""
    _no_split_modules = ["BDHModel", "BDHForCausalLM"]
    _is_stateful = True

    def __init__(self, config):
        super().__init__(config)
        width, heads, neurons = config.n_embd, config.n_head, config.neurons_per_head
        self.decoder = nn.Parameter(torch.empty(heads * neurons, width))
        self.encoder = nn.Parameter(torch.empty(heads, width, neurons))
        self.encoder_v = nn.Parameter(torch.empty(heads, width, neurons))
        self.attn = BDHAttention(neurons)
        self.embed = nn.Embedding(config.vocab_size, width)

    def _init_weights(self, module):
        if isinstance(module, BDHAttention):
            module.freqs.copy_(frequencies(module.freqs.shape[-1]))
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter, std=INITIAL_STD)

    def get_input_embeddings(self):
        return self.embed

    def set_input_embeddings(self, value):
        self.embed = value

    def get_output_embeddings(self):
        return None  # lm_head is a plain (D, V) matrix

    def resize_token_embeddings(self, *unused, **unused_options):
        raise NotImplementedError("BDH's vocabulary is fixed: make a new model with another vocab_size")

    def layer(self, x, position, mask, state):
        """x (B, 1, T, D) -> x (B, 1, T, D) and the state after it."""
        n = functional.relu(x @ self.encoder)  # B H T N
        attended, state = self.attn(n, x, position, mask, state)
        gated = n * functional.relu(norm(attended).to(x.dtype) @ self.encoder_v)  # B H T N
        gated = functional.dropout(gated, self.config.dropout, self.training)
        mixed = gated.transpose(1, 2).flatten(2).unsqueeze(1) @ self.decoder  # B 1 T D
        return norm(x + norm(mixed)), state

    def read_chunk(self, input_ids, mask, cache):
        """input_ids (B, T), mask (B, T) or None -> the L + 1 inputs and outputs of the layers, each (B, T, D)."""
        x = norm(self.embed(input_ids)).unsqueeze(1)
        start = cache.position if cache is not None else 0
        if mask is None:
            position = start + torch.arange(input_ids.shape[1], device=x.device).unsqueeze(0)
        else:
            position = start + mask.cumsum(-1) - 1
        outputs = [x.squeeze(1)]
        for i in range(self.config.n_layer):
            x, state = self.layer(x, position, mask, cache.states[i] if cache is not None else None)
            if cache is not None:
                cache.states[i] = state
            outputs.append(x.squeeze(1))
        if cache is not None:
            cache.position = start + (input_ids.shape[1] if mask is None else mask.sum(-1, keepdim=True))
            cache.columns += input_ids.shape[1]
        return outputs

    def read(self, input_ids, attention_mask, cache, all_layers):
        """-> outputs of the layers (all L + 1, or the last alone), each (B, T, D). Padding is not read and takes no position."""
        batch, tokens = input_ids.shape
        mask = None
        if attention_mask is not None:
            if attention_mask.dim() != 2:
                raise ValueError(f"BDH takes an attention_mask of shape (batch, tokens), not {tuple(attention_mask.shape)}")
            mask = (attention_mask[:, -tokens:] != 0).long()
        if cache is None and (torch.is_grad_enabled() or tokens <= CHUNK):
            outputs = self.read_chunk(input_ids, mask, None)
            return outputs if all_layers else outputs[-1:]
        cache = BDHCache() if cache is None else cache
        if not cache.states:
            heads, neurons, width = self.encoder.shape[0], self.encoder.shape[2], self.encoder.shape[1]
            shape = (batch, heads, neurons, width)
            cache.states = [torch.zeros(shape, device=input_ids.device) for _ in range(self.config.n_layer)]
        chunks = []
        for first in range(0, tokens, CHUNK):
            part = slice(first, first + CHUNK)
            outputs = self.read_chunk(input_ids[:, part], None if mask is None else mask[:, part], cache)
            chunks.append(outputs if all_layers else outputs[-1:])
        return [torch.cat(layer, dim=1) for layer in zip(*chunks)]


def checked(past_key_values, use_cache, output_attentions):
    """The cache to read into: the one given, a new one where asked for, or None."""
    if output_attentions:
        raise ValueError("BDH has no attention probabilities to return")
    if past_key_values is None:
        return BDHCache() if use_cache else None
    if not isinstance(past_key_values, BDHCache):
        raise ValueError(f"BDH keeps what it has read in a BDHCache, not in a {type(past_key_values).__name__}")
    return past_key_values


class BDHModel(BDHPreTrainedModel):
    """BDH without a head."""

    _keys_to_ignore_on_load_unexpected = [r"^lm_head$"]

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=None, output_attentions=None,
                output_hidden_states=None, return_dict=None, **unused):
        """input_ids (B, T) -> last_hidden_state (B, T, D), and past_key_values where use_cache asks for it."""
        cache = checked(past_key_values, use_cache, output_attentions)
        hidden = self.read(input_ids, attention_mask, cache, output_hidden_states)
        output = BaseModelOutputWithPast(last_hidden_state=hidden[-1], past_key_values=cache,
                                         hidden_states=tuple(hidden) if output_hidden_states else None)
        return output.to_tuple() if return_dict is False else output


class BDHForCausalLM(BDHPreTrainedModel, GenerationMixin):
    """BDH as a language model."""

    def __init__(self, config):
        super().__init__(config)
        self.lm_head = nn.Parameter(torch.empty(config.n_embd, config.vocab_size))
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls):
        return False  # generate leaves it to forward to make a BDHCache

    def forward(self, input_ids, attention_mask=None, past_key_values=None, labels=None, use_cache=None, output_attentions=None,
                output_hidden_states=None, return_dict=None, logits_to_keep=0, num_items_in_batch=None, **unused):
        """input_ids (B, T) -> logits (B, T, V), or the last logits_to_keep of them; past_key_values where use_cache asks for it.

        attention_mask (B, T), or with the columns already read before them: 0 marks padding, wherever it stands.
        labels (B, T): the tokens themselves (they are shifted here), -100 where there is nothing to predict; gives the loss, in
        nats, as a mean over labels, or as their sum over num_items_in_batch.
        """
        cache = checked(past_key_values, use_cache, output_attentions)
        hidden = self.read(input_ids, attention_mask, cache, output_hidden_states)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = hidden[-1][:, kept if labels is None else slice(None)] @ self.lm_head
        output = CausalLMOutputWithPast(loss=None if labels is None else shifted_loss(logits, labels, num_items_in_batch),
                                        logits=logits, past_key_values=cache,
                                        hidden_states=tuple(hidden) if output_hidden_states else None)
        return output.to_tuple() if return_dict is False else output

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, attention_mask=None, use_cache=None,
                                      cache_position=None, token_type_ids=None, logits_to_keep=0, **kwargs):
        """The columns that the cache has not read yet. How generate says which differs between versions of transformers."""
        if past_key_values is None:
            new = input_ids.shape[1]
        elif "next_sequence_length" in kwargs or "is_first_iteration" in kwargs:
            new = kwargs.get("next_sequence_length") or input_ids.shape[1]
        elif cache_position is not None:
            new = len(cache_position)
        else:
            new = input_ids.shape[1] - past_key_values.get_seq_length()
        asked = {name: kwargs[name] for name in ("output_attentions", "output_hidden_states") if name in kwargs}
        return {"input_ids": input_ids[:, -new:], "attention_mask": attention_mask, "past_key_values": past_key_values,
                "use_cache": use_cache, "logits_to_keep": logits_to_keep, **asked}


def shifted_loss(logits, labels, items):
    """Cross-entropy of each next token."""
    logits, targets = logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten().to(logits.device)
    if items is None:
        return functional.cross_entropy(logits, targets)
    return functional.cross_entropy(logits, targets, reduction="sum") / items


BDHModel.register_for_auto_class("AutoModel")  # so that transformers' save_pretrained takes this file along
BDHForCausalLM.register_for_auto_class("AutoModelForCausalLM")
