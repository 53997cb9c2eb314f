/* A program in C, as a user would write it: loads a directory, reads tokens, generates text. Prints what it
 * got, or the library's error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bdh/bdh_c.h"

static int print_text(void* user, const char* text, size_t length) {
  size_t* pieces = user;
  ++*pieces;
  return fwrite(text, 1, length, stdout) == length;
}

static int give_up(void) {
  fprintf(stderr, "%s\n", bdh_last_error());
  return 1;
}

static int run(const bdh_model* model, const char* prompt) {
  bdh_session* session = NULL;
  bdh_generation_options options;
  size_t pieces = 0;
  bdh_status status;
  if (bdh_session_new(model, &session) != BDH_OK) return give_up();
  bdh_generation_defaults(model, &options);
  options.do_sample = 0;
  options.max_new_tokens = 40;
  status = bdh_generate(session, prompt, &options, print_text, &pieces);
  printf("\n%lld tokens read, %lu pieces\n", (long long)bdh_session_position(session), (unsigned long)pieces);
  bdh_session_free(session);
  return status == BDH_OK ? 0 : give_up();
}

int main(int argc, char** argv) {
  bdh_model* model = NULL;
  int result;
  if (argc != 3) return 2;
  if (bdh_model_load(argv[1], NULL, &model) != BDH_OK) return give_up();
  result = run(model, argv[2]);
  bdh_model_free(model);
  return result;
}
