// cuBLASLt: descriptors, the choice of an algorithm, and products queued.
#include "bench/cuda/blas.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "kernels/cuda/runtime.h"

namespace bdh::bench {

namespace {

constexpr size_t kWorkspace = size_t{64} << 20;
constexpr int kProposals = 8;
constexpr int kTrials = 5;  // of a proposal

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ErrorKind::unsupported, "cuBLASLt: ", what, " failed: ", cublasLtGetStatusName(status));
}

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : dtype == DType::f16 ? CUDA_R_16F : CUDA_R_32F;
}

// Everything of a product but where its numbers are.
using Key =
    std::tuple<int64_t, int64_t, int64_t, std::array<int64_t, 6>, bool, bool, DType, DType, float, bool, int>;

Key key_of(const MatrixProduct& p) {
  return {p.m,
          p.n,
          p.k,
          {p.a.stride, p.a.step, p.b.stride, p.b.step, p.c.stride, p.c.step},
          p.a.transposed,
          p.b.transposed,
          p.in,
          p.out,
          p.beta,
          p.relu,
          p.batch};
}

// What cuBLASLt destroys by a function of its own.
template <auto destroy>
struct Destroyer {
  template <class Object>
  void operator()(Object* object) const {
    destroy(object);
  }
};
template <class Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<destroy>>;

using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Description = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class Setter, class Handle, class Attribute, class Value>
void set(Setter setter, Handle handle, Attribute attribute, Value value) {
  check_blas(setter(handle, attribute, &value, sizeof value), "describing a product");
}

// A row-major (rows, columns) matrix as cuBLASLt sees it: column-major (columns, rows).
Layout layout_of(const Operand& operand, DType dtype, int64_t rows, int64_t columns, int batch) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), static_cast<uint64_t>(columns),
                                        static_cast<uint64_t>(rows), operand.stride),
             "describing a matrix");
  Layout owned(layout);
  const auto set_layout = cublasLtMatrixLayoutSetAttribute;
  set(set_layout, layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batch));
  set(set_layout, layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, operand.step);
  return owned;
}

Description description_of(const MatrixProduct& p) {
  cublasLtMatmulDesc_t description = nullptr;
  check_blas(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  Description owned(description);
  // Row-major C = A B is column-major C' = B' A': B comes first.
  const auto set_description = cublasLtMatmulDescSetAttribute;
  set(set_description, description, CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(set_description, description, CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(set_description, description, CUBLASLT_MATMUL_DESC_EPILOGUE,
      p.relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT);
  return owned;
}

// Algorithms that make do with that workspace, for operands aligned as ours are.
Preference preference_of(size_t workspace) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&preference), "asking for algorithms");
  Preference owned(preference);
  const auto set_preference = cublasLtMatmulPreferenceSetAttribute;
  set(set_preference, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(set_preference, preference, attribute, uint32_t{16});
  return owned;
}

// A product's sizes made known to cuBLASLt, and the algorithm for it.
struct Plan {
  explicit Plan(const MatrixProduct& p)
      : description(description_of(p)),
        a(layout_of(p.a, p.in, p.a.transposed ? p.k : p.m, p.a.transposed ? p.m : p.k, p.batch)),
        b(layout_of(p.b, p.in, p.b.transposed ? p.n : p.k, p.b.transposed ? p.k : p.n, p.batch)),
        c(layout_of(p.c, p.out, p.m, p.n, p.batch)) {}

  Description description;
  Layout a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
};

struct Event {
  Event() { cuda::check(cudaEventCreate(&event), "creating an event"); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t event = nullptr;
};

}  // namespace

struct Blas::Parts {
  Parts() : workspace(kWorkspace, "cuBLASLt's workspace") { check_blas(cublasLtCreate(&handle), "starting"); }
  ~Parts() { cublasLtDestroy(handle); }

  cublasStatus_t start(const Plan& plan, const MatrixProduct& p, cudaStream_t stream) {
    const float one = 1;
    void* c = const_cast<void*>(p.c.data);
    return cublasLtMatmul(handle, plan.description.get(), &one, p.b.data, plan.b.get(), p.a.data,
                          plan.a.get(), &p.beta, c, plan.c.get(), c, plan.c.get(), &plan.algorithm,
                          workspace.as<void>(), workspace.bytes(), stream);
  }

  std::vector<cublasLtMatmulHeuristicResult_t> proposals(const Plan& plan) {
    const Preference preference = preference_of(workspace.bytes());
    std::vector<cublasLtMatmulHeuristicResult_t> found(kProposals);
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, plan.description.get(), plan.b.get(), plan.a.get(), plan.c.get(), plan.c.get(),
        preference.get(), kProposals, found.data(), &count);
    if (status != CUBLAS_STATUS_SUCCESS || count == 0)
      fail(ErrorKind::unsupported, "cuBLASLt has no way to do this product (", cublasLtGetStatusName(status),
           ")");
    found.resize(static_cast<size_t>(count));
    return found;
  }

  // Milliseconds of the fastest trial; infinite when it fails.
  float time(const Plan& plan, const MatrixProduct& p, cudaStream_t stream) {
    float best = INFINITY;
    const Event before, after;
    for (int i = 0; i < kTrials; ++i) {
      cuda::check(cudaEventRecord(before.event, stream), "timing a product");
      if (start(plan, p, stream) != CUBLAS_STATUS_SUCCESS) return INFINITY;
      cuda::check(cudaEventRecord(after.event, stream), "timing a product");
      cuda::check(cudaEventSynchronize(after.event), "timing a product");
      float milliseconds = 0;
      cuda::check(cudaEventElapsedTime(&milliseconds, before.event, after.event), "timing a product");
      best = std::min(best, milliseconds);
    }
    return best;
  }

  const Plan& plan_for(const MatrixProduct& p, cudaStream_t stream) {
    const Key key = key_of(p);
    if (const auto found = plans.find(key); found != plans.end()) return found->second;
    Plan plan(p);
    float best = INFINITY;
    cublasLtMatmulAlgo_t fastest{};
    for (const cublasLtMatmulHeuristicResult_t& proposal : proposals(plan)) {
      if (proposal.state != CUBLAS_STATUS_SUCCESS) continue;
      plan.algorithm = proposal.algo;
      const float milliseconds = time(plan, p, stream);
      if (milliseconds < best) best = milliseconds, fastest = proposal.algo;
    }
    if (best == INFINITY) fail(ErrorKind::unsupported, "cuBLASLt failed at this product in every way");
    plan.algorithm = fastest;
    return plans.emplace(key, std::move(plan)).first->second;
  }

  cublasLtHandle_t handle = nullptr;
  cuda::DeviceMemory workspace;
  std::map<Key, Plan> plans;
};

Blas::Blas() : parts_(std::make_unique<Parts>()) {}
Blas::~Blas() = default;

void Blas::multiply(const MatrixProduct& product, cudaStream_t stream) {
  check_blas(parts_->start(parts_->plan_for(product, stream), product, stream), "a product");
}

std::string Blas::name() {
  const size_t version = cublasLtGetVersion();
  return concat("cuBLASLt ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

}  // namespace bdh::bench
