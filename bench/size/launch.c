/* Starts a program several times: the median of the milliseconds to its first output, and the most memory it
 * had, in bytes. usage: launch TIMES PROGRAM ARGUMENT...     Itself it is small: Linux counts the memory of
 * who starts a program as its own. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_TIMES = 1000 };

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static int compare(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return x < y ? -1 : x > y;
}

static void start(char** program, const int output[2]) {
  dup2(output[1], STDOUT_FILENO);
  close(output[0]);
  close(output[1]);
  execv(program[0], program);
  perror(program[0]);
  _exit(127);
}

/* Milliseconds to the first output, or to the end where there is none; below 0: it failed. */
static double run(char** program, long* most_memory) {
  char bytes[4096];
  int output[2], status;
  double first = 0, began;
  pid_t child;
  ssize_t got;
  struct rusage usage;
  if (pipe(output) != 0) return -1;
  began = milliseconds();
  child = fork();
  if (child == 0) start(program, output);
  close(output[1]);
  while ((got = read(output[0], bytes, sizeof bytes)) > 0)
    if (first == 0) first = milliseconds() - began;
  close(output[0]);
  if (child < 0 || wait4(child, &status, 0, &usage) < 0 || status != 0) return -1;
  if (usage.ru_maxrss > *most_memory) *most_memory = usage.ru_maxrss;
  return first > 0 ? first : milliseconds() - began;
}

int main(int argc, char** argv) {
  static double times[MOST_TIMES];
  long most_memory = 0;
  const int count = argc > 2 ? atoi(argv[1]) : 0;
  int i;
  if (count < 1 || count > MOST_TIMES) {
    fprintf(stderr, "usage: launch TIMES PROGRAM ARGUMENT...\n");
    return 2;
  }
  for (i = 0; i < count; ++i) {
    times[i] = run(argv + 2, &most_memory);
    if (times[i] < 0) {
      fprintf(stderr, "launch: %s failed\n", argv[2]);
      return 1;
    }
  }
  qsort(times, (size_t)count, sizeof *times, compare);
  printf("%.1f %ld\n", times[count / 2], most_memory * 1024);
  return 0;
}
