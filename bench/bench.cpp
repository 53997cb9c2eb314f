// Chooses the half that the device belongs to.
#include "bench/bench.h"

#include "bdh/base/error.h"
#include "kernels/backends.h"
#ifdef BDH_BENCH_CPU
#include "bench/cpu/run.h"
#endif
#ifdef BDH_BENCH_CUDA
#include "bench/cuda/run.h"
#endif

namespace bdh::bench {

namespace {

#ifdef BDH_BENCH_CPU
Report run_cpu_half(const Options& options) { return run_on_cpu(options); }
#else
Report run_cpu_half(const Options&) {
  fail(
      ErrorKind::unsupported,
      "this build has no CPU benchmarks: `make bench` builds them, or cmake with -DBDH_BENCH=ON where Google "
      "Benchmark and OpenBLAS are installed");
}
#endif

#ifdef BDH_BENCH_CUDA
Report run_cuda_half(const Options& options, const std::shared_ptr<Backend>& backend) {
  return run_on_cuda(options, backend);
}
#else
Report run_cuda_half(const Options&, const std::shared_ptr<Backend>&) {
  fail(ErrorKind::unsupported,
       "this build has no GPU benchmarks: build with -DBDH_BENCH=ON where nvcc and cuBLAS are installed, or "
       "use --device cpu");
}
#endif

}  // namespace

Report run(const Options& options) {
  check(options);
  const std::shared_ptr<Backend> backend = make_backend(options.device, options.threads);
  return backend->name().starts_with("cuda") ? run_cuda_half(options, backend) : run_cpu_half(options);
}

}  // namespace bdh::bench
