/* The C API: load a model, read tokens, get logits or text. For C99 and for every language that can call C.
 *
 * Functions return a status; bdh_last_error() then says in one line what went wrong and what to do. No
 * exception, exit, output, signal handler or, before the first session, thread comes from here. NULL and
 * wrong sizes are refused, but for what is said to be allowed. A model may be used from several threads, a
 * session from one at a time, and not by the callbacks of a call that uses it. Strings are UTF-8; sizes are
 * in bytes unless said otherwise. Functions that give text or bytes put at most `capacity` of them into the
 * buffer, without a closing zero, and their whole number into the last argument: call with capacity 0 to
 * learn it.
 *
 * A program that was compiled against an earlier version runs with a later library of the same soname. So
 * options begin with their size, which their _defaults function sets, and are always filled by it first; a
 * function that fills a struct takes its size. Both are sizeof the struct:
 * `bdh_load_options_defaults(&options, sizeof options)`. */
#ifndef BDH_C_H
#define BDH_C_H

/* NOLINTBEGIN(modernize-use-using): this is C */

#include <stddef.h>
#include <stdint.h>

#ifdef __GNUC__
#define BDH_API __attribute__((visibility("default")))
#else
#define BDH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  BDH_OK = 0,
  BDH_INVALID_ARGUMENT = 1, /* NULL, a size, a shape, an option, a token out of range */
  BDH_NOT_FOUND = 2,        /* a file, directory, tensor, key or device that is not there */
  BDH_IO = 3,               /* the operating system refused */
  BDH_BAD_FILE = 4,         /* a file that is not what it claims to be */
  BDH_UNSUPPORTED = 5,      /* valid, but not something this build can do */
  BDH_OUT_OF_MEMORY = 6,
  BDH_CANCELLED = 7, /* a callback asked to stop */
  BDH_INTERNAL = 8,
  BDH_BUSY = 9 /* takes no more now: try again later */
} bdh_status;

/* Why this thread's last failed call failed; "" before any has. Valid until the next one fails. */
BDH_API const char* bdh_last_error(void);

/* "0.1.0" */
BDH_API const char* bdh_version(void);

/* ---- devices ---- */

typedef struct {
  char name[32];         /* what bdh_load_options.device takes: "cpu", "cuda:0" */
  char description[224]; /* "cpu, avx512, 2 threads" */
} bdh_device_info;

/* The devices that this build and this machine can use; the CPU is the first. */
BDH_API bdh_status bdh_device_count(size_t* count);
BDH_API bdh_status bdh_device_get_info(size_t index, bdh_device_info* info, size_t info_size);

/* ---- models ---- */

typedef struct bdh_model bdh_model;

/* Told of what was odd about a model while it loads, a sentence closed by a zero. */
typedef void (*bdh_warning_callback)(void* user, const char* message);

typedef struct {
  size_t size;
  const char* device; /* "auto", "cpu", "cuda", "cuda:1"; NULL: auto */
  const char* dtype;  /* what the weights run as: "f32", "bf16", "f16"; NULL: as stored. Quantized ones run
                         as stored alone */
  int32_t threads;    /* of the CPU; 0: the cores */
  int32_t strict;     /* not 0: tensors that are no part of a BDH model are an error, not a warning */
  int32_t verify;     /* not 0: compare the weights files with the hashes in metadata.json */
  int32_t reserved;   /* 0 */
  bdh_warning_callback on_warning; /* NULL: none */
  void* user;                      /* for on_warning */
} bdh_load_options;

BDH_API bdh_status bdh_load_options_defaults(bdh_load_options* options, size_t size);

/* A model directory, or a weights file by itself, of any form that README lists. Maps the weights; they are
 * read when a session first needs them. options may be NULL: the defaults. */
BDH_API bdh_status bdh_model_load(const char* path, const bdh_load_options* options, bdh_model** model);

/* The files of a model directory in memory; begin with bdh_model_buffers_defaults, which leaves all of them
 * out. */
typedef struct {
  size_t size;
  const void* weights; /* model.safetensors. Not copied: they stay as they are until `release` is called, */
  size_t weights_size;
  void (*release)(void* user); /* from any thread, after the last use of the weights; also where loading
                                  fails. NULL: keep them until the model and all its sessions are freed */
  void* user;                  /* for release */
  const char* config;          /* config.json; this and the next ones are copied */
  size_t config_size;
  const char* generation_config; /* generation_config.json; NULL: none */
  size_t generation_config_size;
  const char* tokenizer; /* tokenizer.json; NULL: none, bytes are the tokens of a vocabulary of 256 */
  size_t tokenizer_size;
} bdh_model_buffers;

BDH_API bdh_status bdh_model_buffers_defaults(bdh_model_buffers* buffers, size_t size);
BDH_API bdh_status bdh_model_load_buffers(const bdh_model_buffers* buffers, const bdh_load_options* options,
                                          bdh_model** model);

/* A LoRA adapter, a directory that PEFT saved or a file of matrices by head (README), and how much of it: 1
 * is all. */
typedef struct {
  const char* path;
  double scale;
} bdh_adapter;

/* A new model: `model` with the adapters added to its weights, each parameter rounded once; `model` stays as
 * it is, and what does not change is shared. Freed like any other. Quantized weights are unsupported. */
BDH_API bdh_status bdh_model_merge_adapters(const bdh_model* model, const bdh_adapter* adapters, size_t count,
                                            bdh_model** merged);

/* The same with the adapters kept beside the weights, in float32: the model shares all memory with `model`,
 * and sessions of both, and of other adapters, may be read together. Quantized weights take adapters too. On
 * a GPU unsupported, and where `model` has an adapter already. */
BDH_API bdh_status bdh_model_apply_adapters(const bdh_model* model, const bdh_adapter* adapters, size_t count,
                                            bdh_model** adapted);

/* Sessions keep what they need: a model may be freed before them. NULL is allowed. */
BDH_API void bdh_model_free(bdh_model* model);

typedef struct {
  int64_t n_layer, n_embd, n_head, mlp_internal_dim_multiplier, vocab_size;
  int64_t neurons_per_head;
  int64_t parameters;
  int64_t tokenizer_vocab_size; /* one more than its largest token; 0: there is no tokenizer */
  int64_t bos_token, eos_token; /* of the tokenizer; -1: none */
  int64_t block_size;           /* tokens of a training example; 0: not known */
  int64_t weight_bits;          /* of a number of the weights, as they run: 32, 16, or, quantized, 8 or 4 */
  int64_t packed; /* not 0: by bdh convert --packed; run as stored on a CPU, the weights are not copied */
  char dtype[8];  /* what the weights run as: "F32", "BF16", "F16", "int8", "int4" */
} bdh_model_info;

BDH_API bdh_status bdh_model_get_info(const bdh_model* model, bdh_model_info* info, size_t info_size);
/* config.json, as this library writes it. */
BDH_API bdh_status bdh_model_config(const bdh_model* model, char* text, size_t capacity, size_t* length);
/* The metadata of the safetensors files: a JSON object of strings; and one of them. */
BDH_API bdh_status bdh_model_metadata(const bdh_model* model, char* text, size_t capacity, size_t* length);
BDH_API bdh_status bdh_model_metadata_value(const bdh_model* model, const char* key, char* text,
                                            size_t capacity, size_t* length);

typedef struct {
  uint64_t weights;       /* as they run, those that stay in a mapped file included */
  uint64_t session;       /* each session, however long its text, with its state in float32 */
  uint64_t working;       /* while so many tokens are read at once */
  uint64_t peak_resident; /* of this process so far; 0: not known */
  uint64_t session_bf16;  /* each session with its state in bfloat16; 0: the device has no such states */
} bdh_memory_info;

/* What the model needs, in bytes. */
BDH_API bdh_status bdh_model_get_memory(const bdh_model* model, size_t tokens, bdh_memory_info* info,
                                        size_t info_size);

/* ---- text to tokens and back ---- */

/* The text's tokens, at most `capacity` of them into `tokens`; *count receives how many there are.
 * special_tokens, if not 0: with those that the tokenizer puts around a text. */
BDH_API bdh_status bdh_tokenize(const bdh_model* model, const char* text, size_t length,
                                int32_t special_tokens, int32_t* tokens, size_t capacity, size_t* count);
/* The bytes that the tokens stand for, special ones left out if special_tokens is 0. They need not be whole
 * UTF-8 characters. */
BDH_API bdh_status bdh_detokenize(const bdh_model* model, const int32_t* tokens, size_t count,
                                  int32_t special_tokens, char* text, size_t capacity, size_t* length);
/* The bytes that one token stands for by itself. */
BDH_API bdh_status bdh_token_to_piece(const bdh_model* model, int32_t token, char* text, size_t capacity,
                                      size_t* length);

/* ---- sessions: one sequence each, constant memory however long it gets ---- */

typedef struct bdh_session bdh_session;

BDH_API bdh_status bdh_session_new(const bdh_model* model, bdh_session** session);
/* An independent copy. */
BDH_API bdh_status bdh_session_clone(const bdh_session* session, bdh_session** copy);
/* NULL is allowed. */
BDH_API void bdh_session_free(bdh_session* session);
/* Forgets everything read. */
BDH_API bdh_status bdh_session_reset(bdh_session* session);
/* Forgets everything read. What a token left has faded to 1/e after that many tokens: one number for all
 * heads or one for each, above 0, INFINITY for no damping but exact phases; count 0: none, as in the authors'
 * code. */
BDH_API bdh_status bdh_session_set_horizon(bdh_session* session, const float* horizon, size_t count);
/* Forgets everything read. What the state is kept as: "f32", or "bf16", which takes half the memory, is read
 * faster, and is rounded each time tokens are added to it; on the CPU alone. */
BDH_API bdh_status bdh_session_set_state_dtype(bdh_session* session, const char* dtype);
/* Tokens read so far. */
BDH_API bdh_status bdh_session_get_position(const bdh_session* session, int64_t* position);

typedef enum {
  BDH_LOGITS_NONE = 0, /* none are computed */
  BDH_LOGITS_LAST = 1, /* vocab_size floats, after the last token */
  BDH_LOGITS_ALL = 2   /* count * vocab_size floats, after each token */
} bdh_logits;

/* Reads `count` > 0 tokens, each in [0, vocab_size). `logits` has room for `capacity` floats. The last token
 * that bdh_generate gave is read before them, and by nothing else: none of these logits is its. */
BDH_API bdh_status bdh_session_read(bdh_session* session, const int32_t* tokens, size_t count,
                                    bdh_logits which, float* logits, size_t capacity);

/* What bdh_session_read takes. */
typedef struct {
  bdh_session* session;
  const int32_t* tokens;
  size_t count;
  float* logits;
  size_t capacity;
  int32_t which;    /* bdh_logits */
  int32_t reserved; /* 0 */
} bdh_read;

/* Reads into several sessions of one model together, faster than one after the other; lengths and positions
 * may differ. read_size is sizeof(bdh_read). */
BDH_API bdh_status bdh_session_read_batch(const bdh_read* reads, size_t count, size_t read_size);

/* What was read, where a generated text stands, and the horizon, as a safetensors file, and back into a
 * session of the same model and dtype: it goes on with the bits of a session that was never interrupted. It
 * takes the horizon, too, unless bdh_session_set_horizon was called, which must then be the same. */
BDH_API bdh_status bdh_session_save(bdh_session* session, const char* path);
BDH_API bdh_status bdh_session_restore(bdh_session* session, const char* path);
/* The same in memory. */
BDH_API bdh_status bdh_session_save_buffer(bdh_session* session, void* buffer, size_t capacity, size_t* size);
BDH_API bdh_status bdh_session_restore_buffer(bdh_session* session, const void* buffer, size_t size);

/* ---- text ---- */

/* Callbacks return 0 to stop with BDH_CANCELLED. on_text: text as it becomes certain, whole UTF-8 characters,
 * not closed by a zero. on_token: every token, with the natural logarithm of its probability under the model,
 * whatever the sampling options make of that. on_prompt: tokens of the prompt read, and in all. */
typedef int (*bdh_text_callback)(void* user, const char* text, size_t length);
typedef int (*bdh_token_callback)(void* user, int32_t token, double log_probability);
typedef int (*bdh_prompt_callback)(void* user, int64_t done, int64_t total);

typedef struct {
  size_t size;
  int64_t max_new_tokens; /* below 0: as max_length says */
  int64_t max_length;     /* prompt and text together */
  int64_t min_new_tokens; /* no end before */
  int64_t min_length;
  int64_t no_repeat_ngram_size; /* 0: any may come again */
  int64_t top_k;                /* 0: all */
  uint64_t seed;
  float temperature;
  float top_p;          /* 1: all */
  float min_p;          /* 0: all */
  float typical_p;      /* 1: all */
  float epsilon_cutoff; /* 0: all */
  float eta_cutoff;     /* 0: all */
  float repetition_penalty;
  int32_t do_sample;       /* 0: the likeliest token each time */
  const char* const* stop; /* strings before which the text ends, instead of the model's; NULL: the model's */
  size_t stop_count;
  bdh_text_callback on_text; /* these may be NULL */
  bdh_token_callback on_token;
  bdh_prompt_callback on_prompt;
  void* user; /* for the callbacks */
} bdh_generation_options;

/* What the model's generation_config.json says, or its defaults; model NULL: the defaults. What else that
 * says holds whatever the options are: eos_token_id, suppressed tokens and so on. num_return_sequences does
 * not: there is one text. */
BDH_API bdh_status bdh_generation_options_defaults(const bdh_model* model, bdh_generation_options* options,
                                                   size_t size);

typedef enum {
  BDH_FINISH_LENGTH = 0,
  BDH_FINISH_EOS = 1,  /* a token that ends a text */
  BDH_FINISH_STOP = 2, /* a stop string */
  BDH_FINISH_CANCELLED = 3
} bdh_finish;

typedef struct {
  int32_t finish;    /* bdh_finish */
  int32_t exhausted; /* not 0: every token was banned at some point, and greedy took token 0 there */
  int64_t prompt_tokens;
  int64_t new_tokens;
  double prompt_seconds; /* reading the prompt and drawing the first token */
  double text_seconds;   /* reading and drawing the others; not the callbacks */
} bdh_generation_result;

/* Reads the prompt into the session and continues it; the same options give the same text. options may be
 * NULL: the model's; so may result. A session that has read nothing takes the horizon of
 * generation_config.json, unless bdh_session_set_horizon was called, and begins with the tokenizer's special
 * tokens. Called again, it goes on behind the last token of the text, and with the same seed a text in two
 * calls is the one in a single call; the prompt may then be empty. Cancelled, it has read what came before.
 */
BDH_API bdh_status bdh_generate(bdh_session* session, const char* prompt, size_t length,
                                const bdh_generation_options* options, bdh_generation_result* result,
                                size_t result_size);

/* One token for the logits (count = vocab_size floats), as bdh_generate draws it: history holds the tokens
 * that the repetition penalty applies to, step which number of the seed decides. Lengths, n-grams, stop
 * strings and callbacks of the options play no part. options may be NULL: the defaults. */
BDH_API bdh_status bdh_sample(const float* logits, size_t count, const bdh_generation_options* options,
                              const int32_t* history, size_t history_count, uint64_t step, int32_t* token);

/* ---- many texts at once ---- */

typedef struct bdh_scheduler bdh_scheduler;

typedef struct {
  size_t size;
  int64_t most_running; /* texts at once, each with a session's memory */
  int64_t most_queued;  /* texts that wait for a place */
  int64_t chunk;        /* tokens of a prompt that are read between two tokens of the other texts */
} bdh_scheduler_options;

BDH_API bdh_status bdh_scheduler_options_defaults(bdh_scheduler_options* options, size_t size);

/* Writes texts on a thread of its own, all that run as one batch; each is what bdh_generate makes of its
 * request alone, whatever else runs. Any thread may call. options may be NULL: the defaults. */
BDH_API bdh_status bdh_scheduler_new(const bdh_model* model, const bdh_scheduler_options* options,
                                     bdh_scheduler** scheduler);
/* Ends its texts as cancelled. Not from a callback, nor while another call waits. NULL is allowed. */
BDH_API void bdh_scheduler_free(bdh_scheduler* scheduler);

/* Takes a text, whose number *id then is; BDH_BUSY where the queue is full. from: a session that has been
 * read, or NULL: it is copied, and the text goes on from the copy as bdh_generate would. The callbacks of the
 * options are called on the scheduler's thread, hold up all texts while they run, and end this one where they
 * return 0; on_prompt must be NULL. options may be NULL: the model's. */
BDH_API bdh_status bdh_scheduler_submit(bdh_scheduler* scheduler, const char* prompt, size_t length,
                                        const bdh_session* from, const bdh_generation_options* options,
                                        uint64_t* id);
/* Ends a text as cancelled, within a token. Nothing for one that has ended. */
BDH_API bdh_status bdh_scheduler_cancel(bdh_scheduler* scheduler, uint64_t id);
/* Waits for a text's end, once for each; every text is to be waited for. result may be NULL; its seconds are
 * 0, which a text that shares the machine has none of. session, unless NULL, receives the session as
 * bdh_generate leaves one, to be freed, or NULL where the text never began. BDH_CANCELLED for one that was
 * cancelled, of which result and session tell, too. */
BDH_API bdh_status bdh_scheduler_wait(bdh_scheduler* scheduler, uint64_t id, bdh_generation_result* result,
                                      size_t result_size, bdh_session** session);

#ifdef __cplusplus
}
#endif

/* NOLINTEND(modernize-use-using) */

#endif
