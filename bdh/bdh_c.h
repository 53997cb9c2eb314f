/* The C API: load a model directory, read tokens, get logits or text. For C and for every language that can
 * call C; it hides no more than bdh.h does and adds nothing to it.
 *
 * Functions that can fail return a status; bdh_last_error() then says in one line what went wrong and what to
 * do. Nothing aborts, nothing prints. A model may be used from several threads, a session from one at a time.
 * Strings are UTF-8; sizes are in bytes unless said otherwise. */
#ifndef BDH_C_H
#define BDH_C_H

/* NOLINTBEGIN(modernize-use-using): this is C */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  BDH_OK = 0,
  BDH_INVALID_ARGUMENT = 1, /* a shape, an option, a token out of range */
  BDH_NOT_FOUND = 2,        /* a file, directory, tensor or device that is not there */
  BDH_IO = 3,               /* the operating system refused */
  BDH_BAD_FILE = 4,         /* a file that is not what it claims to be */
  BDH_UNSUPPORTED = 5,      /* valid, but not something this build can do */
  BDH_OUT_OF_MEMORY = 6,
  BDH_CANCELLED = 7, /* a callback asked to stop */
  BDH_INTERNAL = 8
} bdh_status;

/* Why this thread's last call failed; "" before any has. Valid until its next call that fails. */
const char* bdh_last_error(void);

/* "0.1.0" */
const char* bdh_version(void);

/* ---- models ---- */

typedef struct bdh_model bdh_model;

typedef struct {
  const char* device; /* "auto", "cpu"; NULL: auto */
  const char* dtype;  /* "f32", "bf16", "f16"; NULL: as stored */
  int threads;        /* 0: the cores */
} bdh_load_options;

/* A model directory, or a weights file by itself, of any form that README lists. Maps the weights; they are
   read when a session first needs them. options may be NULL. */
bdh_status bdh_model_load(const char* directory, const bdh_load_options* options, bdh_model** model);
/* Sessions keep what they need: a model may be freed before them. NULL is allowed. */
void bdh_model_free(bdh_model* model);

typedef struct {
  int64_t n_layer, n_embd, n_head, mlp_internal_dim_multiplier, vocab_size;
  int64_t neurons_per_head;
  int64_t parameters;
} bdh_model_info;

void bdh_model_get_info(const bdh_model* model, bdh_model_info* info);

/* The text's tokens, at most `capacity` of them into `tokens`; *count receives how many there are. Call with
 * capacity 0 to learn the count. */
bdh_status bdh_encode(const bdh_model* model, const char* text, size_t length, int32_t* tokens,
                      size_t capacity, size_t* count);
/* The bytes that the tokens stand for, at most `capacity` of them into `text`, without a closing zero;
 * *length receives how many there are. */
bdh_status bdh_decode(const bdh_model* model, const int32_t* tokens, size_t count, char* text,
                      size_t capacity, size_t* length);

/* ---- sessions: one sequence each, constant memory however long it gets ---- */

typedef struct bdh_session bdh_session;

bdh_status bdh_session_new(const bdh_model* model, bdh_session** session);
/* An independent copy. */
bdh_status bdh_session_clone(const bdh_session* session, bdh_session** copy);
void bdh_session_free(bdh_session* session);

/* Forgets everything read. What a token left has faded to 1/e after that many tokens: one number for all
 * heads or one for each, above 0, INFINITY for no damping but exact phases; count 0: none, as in the authors'
 * code. */
bdh_status bdh_session_set_horizon(bdh_session* session, const float* horizon, size_t count);

/* Tokens read so far. */
int64_t bdh_session_position(const bdh_session* session);
/* Forgets everything read. */
bdh_status bdh_session_reset(bdh_session* session);
/* Reads `count` > 0 tokens, each in [0, vocab_size); logits: vocab_size floats for the last one, or NULL. */
bdh_status bdh_session_read(bdh_session* session, const int32_t* tokens, size_t count, float* logits);
/* What was read as a safetensors file, and back into a session of the same model, dtype and horizon: it goes
 * on with the bits of a session that was never interrupted. */
bdh_status bdh_session_save(bdh_session* session, const char* path);
bdh_status bdh_session_restore(bdh_session* session, const char* path);
/* The same in memory: at most `capacity` bytes into `buffer`; *size receives how many there are. Call with
 * capacity 0 to learn that. */
bdh_status bdh_session_save_buffer(bdh_session* session, void* buffer, size_t capacity, size_t* size);
bdh_status bdh_session_restore_buffer(bdh_session* session, const void* buffer, size_t size);

/* ---- text ---- */

typedef struct {
  int64_t max_new_tokens;
  int do_sample; /* 0: the likeliest token each time */
  float temperature;
  int64_t top_k; /* 0: all */
  float top_p;   /* 1: all */
  float repetition_penalty;
  uint64_t seed;
} bdh_generation_options;

/* What the model's generation_config.json says, or its defaults. What else it says holds whatever the options
 * are: stop strings and eos_token_id, min_p, no_repeat_ngram_size, suppressed tokens and so on; its
 * max_length unless max_new_tokens is changed. num_return_sequences does not: there is one text. */
void bdh_generation_defaults(const bdh_model* model, bdh_generation_options* options);

/* Told each piece of text as it becomes certain: whole UTF-8 characters, not closed by a zero. Returning 0
 * stops generation with BDH_CANCELLED. */
typedef int (*bdh_text_callback)(void* user, const char* text, size_t length);

/* Reads the prompt into the session and continues it; the same options give the same text. options may be
 * NULL: the defaults. A session that has read nothing takes the horizon of generation_config.json, unless
 * bdh_session_set_horizon was called. */
bdh_status bdh_generate(bdh_session* session, const char* prompt, const bdh_generation_options* options,
                        bdh_text_callback on_text, void* user);

#ifdef __cplusplus
}
#endif

/* NOLINTEND(modernize-use-using) */

#endif
