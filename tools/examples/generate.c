/* An example in C: load a model directory, continue a prompt, say what was done. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bdh/bdh_c.h"

static void warn(void* user, const char* message) {
  (void)user;
  fprintf(stderr, "warning: %s\n", message);
}

static int print_text(void* user, const char* text, size_t length) {
  (void)user;
  return fwrite(text, 1, length, stdout) == length && fflush(stdout) == 0;
}

static int add_log_probability(void* user, int32_t token, double log_probability) {
  double* sum = user;
  (void)token;
  *sum += log_probability;
  return 1;
}

static int give_up(void) {
  fprintf(stderr, "generate: %s\n", bdh_last_error());
  return 1;
}

static int generate(const bdh_model* model, bdh_session* session, const char* prompt, long tokens) {
  bdh_generation_options options;
  bdh_generation_result result;
  double log_probability = 0;
  if (bdh_generation_options_defaults(model, &options, sizeof options) != BDH_OK) return give_up();
  options.max_new_tokens = tokens;
  options.on_text = print_text;
  options.on_token = add_log_probability;
  options.user = &log_probability;
  if (bdh_generate(session, prompt, strlen(prompt), &options, &result, sizeof result) != BDH_OK)
    return give_up();
  printf("\n%ld tokens read, %ld written, %.3f nats a token\n", (long)result.prompt_tokens,
         (long)result.new_tokens, -log_probability / (double)result.new_tokens);
  return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char** argv) {
  bdh_load_options options;
  bdh_model* model = NULL;
  bdh_session* session = NULL;
  const char* prompt = argc > 2 ? argv[2] : "To be or not to be";
  const long tokens = argc > 3 ? atol(argv[3]) : 40;
  int failed;
  if (argc < 2 || argc > 4 || tokens < 1) {
    fprintf(stderr, "usage: generate DIR [PROMPT [TOKENS]]\n");
    return 2;
  }
  bdh_load_options_defaults(&options, sizeof options);
  options.on_warning = warn;
  if (bdh_model_load(argv[1], &options, &model) != BDH_OK || bdh_session_new(model, &session) != BDH_OK) {
    failed = give_up();
  } else {
    failed = generate(model, session, prompt, tokens);
  }
  bdh_session_free(session);
  bdh_model_free(model);
  return failed;
}
