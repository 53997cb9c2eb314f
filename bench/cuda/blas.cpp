// cuBLASLt: descriptors, the choice of an algorithm, and products queued.
#include "bench/cuda/blas.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <tuple>
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

class Layout {
 public:
  // A row-major (rows, columns) matrix as cuBLASLt sees it: column-major (columns, rows).
  Layout(const Operand& operand, DType dtype, int64_t rows, int64_t columns, int batch) {
    check_blas(cublasLtMatrixLayoutCreate(&layout_, type_of(dtype), static_cast<uint64_t>(columns),
                                          static_cast<uint64_t>(rows), operand.stride),
               "describing a matrix");
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batch));
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, operand.step);
  }
  ~Layout() {
    if (layout_) cublasLtMatrixLayoutDestroy(layout_);
  }
  Layout(Layout&& other) noexcept : layout_(std::exchange(other.layout_, nullptr)) {}
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  template <class Value>
  void set(cublasLtMatrixLayoutAttribute_t attribute, Value value) {
    check_blas(cublasLtMatrixLayoutSetAttribute(layout_, attribute, &value, sizeof value),
               "describing a matrix");
  }
  cublasLtMatrixLayout_t layout_ = nullptr;
};

class Description {
 public:
  explicit Description(const MatrixProduct& p) {
    check_blas(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "describing a product");
    // Row-major C = A B is column-major C' = B' A': B comes first.
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, p.relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT);
  }
  ~Description() {
    if (description_) cublasLtMatmulDescDestroy(description_);
  }
  Description(Description&& other) noexcept : description_(std::exchange(other.description_, nullptr)) {}
  cublasLtMatmulDesc_t get() const { return description_; }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value) {
    check_blas(cublasLtMatmulDescSetAttribute(description_, attribute, &value, sizeof value),
               "describing a product");
  }
  cublasLtMatmulDesc_t description_ = nullptr;
};

struct Preference {
  Preference() { check_blas(cublasLtMatmulPreferenceCreate(&preference), "asking for algorithms"); }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  template <class Value>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, Value value) {
    check_blas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
               "asking for algorithms");
  }
  cublasLtMatmulPreference_t preference = nullptr;
};

// A product's sizes made known to cuBLASLt, and the algorithm for it.
struct Plan {
  explicit Plan(const MatrixProduct& p)
      : description(p),
        a(p.a, p.in, p.a.transposed ? p.k : p.m, p.a.transposed ? p.m : p.k, p.batch),
        b(p.b, p.in, p.b.transposed ? p.n : p.k, p.b.transposed ? p.k : p.n, p.batch),
        c(p.c, p.out, p.m, p.n, p.batch) {}

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
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace.bytes()));
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      preference.set(attribute, uint32_t{16});
    std::vector<cublasLtMatmulHeuristicResult_t> found(kProposals);
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle, plan.description.get(), plan.b.get(), plan.a.get(), plan.c.get(), plan.c.get(),
        preference.preference, kProposals, found.data(), &count);
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
