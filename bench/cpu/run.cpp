// Gathers limits, kernels, paths and peers of a CPU, runs what is wanted and reports it.
#include "bench/cpu/run.h"

#include <algorithm>
#include <cstdio>

#include "bdh/base/error.h"
#include "bench/cpu/kernels.h"
#include "bench/cpu/limits.h"
#include "bench/cpu/openblas.h"
#include "bench/cpu/paths.h"
#include "kernels/cpu/backend.h"

namespace bdh::bench {

namespace {

/// The cases that are wanted, the limits, and the peers of those paths.
std::vector<CpuCase> wanted_of(const std::vector<CpuCase>& cases, const Wanted& wanted) {
  std::vector<std::string> peers;
  for (const CpuCase& one : cases) {
    if (wanted(one.of)) peers.insert(peers.end(), one.of.peers.begin(), one.of.peers.end());
  }
  std::vector<CpuCase> kept;
  std::copy_if(cases.begin(), cases.end(), std::back_inserter(kept), [&](const CpuCase& one) {
    return one.of.kind == Kind::limit || wanted(one.of) ||
           std::find(peers.begin(), peers.end(), one.of.name) != peers.end();
  });
  return kept;
}

std::string size_text(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, bytes >= 1e6 ? "%.0f MB" : "%.0f KB",
                bytes / (bytes >= 1e6 ? 1048576 : 1024));
  return text;
}

std::string describe(const Machine& m) {
  char load[16];
  std::snprintf(load, sizeof load, "%.2f", m.load);
  return concat(m.processor, ", ", m.cores, m.cores == 1 ? " core" : " cores", ", L1 ", size_text(m.l1),
                ", L2 ", size_text(m.l2), ", L3 ", size_text(m.l3), "; load before the start ", load);
}

Report empty_report(const Machine& m) {
  Report report;
  report.device = concat(m.processor, ", ", m.cores, m.cores == 1 ? " core" : " cores");
  report.heading = {describe(m), openblas_description()};
  report.date = now("%Y-%m-%d %H:%M UTC");
  report.machine = {{"processor", m.processor},
                    {"cores", m.cores},
                    {"l1", m.l1},
                    {"l2", m.l2},
                    {"l3", m.l3},
                    {"load", m.load},
                    {"openblas", openblas_description()}};
  if (m.load > 0.3 * m.cores)
    report.notes.emplace_back(
        "The machine was busy when this started: these numbers are not fit to be quoted.");
  return report;
}

// Tells who watches, and stops starting things when the time is over.
std::function<void(const Case&)> watch(const Options& options) {
  const Stopwatch since;
  return [&options, since](const Case& one) {
    if (options.progress) options.progress(one.id());
    if (options.seconds > 0 && since.seconds() > options.seconds && one.kind != Kind::limit)
      fail(ErrorKind::cancelled, kTimeOver);
  };
}

}  // namespace

Report run_on_cpu(const Options& options) {
  use_best_openblas();
  Machine machine = this_machine();
  if (options.threads > 0) machine.cores = options.threads;
  const int threads = machine.cores;
  const auto backend = [threads] { return cpu::make_backend({.threads = threads, .isa = ""}); };
  const auto random = wants_random(options) ? random_source(config_of_shape(options.shape),
                                                            options.shape.empty() ? "default" : options.shape)
                                            : nullptr;
  const auto trained = wants_trained(options) ? trained_source(options.model, backend()) : nullptr;
  const auto& first = random ? random : trained;

  Report report = empty_report(machine);
  const std::shared_ptr<Peer> peer = start_peer(options, *first, "cpu", threads, 0, &report.peer);
  if (peer) {
    Subject subject(first, DType::f32, backend);
    report.notes.push_back(agreement(*peer, subject, DType::f32));
  }
  std::vector<CpuCase> cases = limit_cases(machine);
  const auto add = [&](const std::vector<CpuCase>& more) {
    cases.insert(cases.end(), more.begin(), more.end());
  };
  add(kernel_cases(machine, options.quick));
  add(path_cases(machine, random, trained, {options.quick, options.full, options.batch}));
  if (peer) add(peer_cases(peer, first->name, threads));
  const std::vector<Result> results = run_cases(
      wanted_of(cases, Wanted(options)), {.repetitions = options.quick ? 3 : 5, .before = watch(options)});
  const Limits limits(machine, results);
  report.roofs = limits.roofs();
  report.rows =
      rows_of(results, [&](const Result& result) { return limits.bound(result.work, result.of.threads); });
  return report;
}

}  // namespace bdh::bench
