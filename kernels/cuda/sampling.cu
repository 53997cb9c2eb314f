// Sampling: top_k, top_p, temperature and the draw, for one sequence a block, so that no logits leave the
// GPU.
//
// Bytes: the logits, six times (they stay in the first-level cache or the second). The order of all this and
// of every sum is that of kernels/sampler.cpp, in float64, so that the same u draws the same token there:
//   1. the largest score and its first token: a maximum over (score, token) packed into 64 bits;
//   2. the k-th largest score: four histograms of 8 bits of the score's ordered bits;
//   3. the candidates, gathered in the order of their ids, with their weights;
//   4. their ranks, each found by counting who comes before: no sort, and no order to agree on;
//   5. one thread adds the few weights in order and stops where the draw does.
#include "kernels/cuda/sampling.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "kernels/cuda/device.h"

namespace bdh::cuda {

namespace {

constexpr int kDrawThreads = 512;
constexpr int kDrawWarps = kDrawThreads / kWarp;
constexpr int kBins = 256;
static_assert(kBins <= kDrawThreads);

struct Candidates {
  double* weight;  // (kMostCandidates), in the order of the tokens, as score and token
  float* score;
  int* token;
  int* order;   // the candidate of each rank
  int* number;  // (kBins + 2), for counting

  __device__ explicit Candidates(unsigned char* memory)
      : weight(reinterpret_cast<double*>(memory)),
        score(reinterpret_cast<float*>(weight + kMostCandidates)),
        token(reinterpret_cast<int*>(score + kMostCandidates)),
        order(token + kMostCandidates),
        number(order + kMostCandidates) {}
};

constexpr size_t kDrawShared =
    kMostCandidates * (sizeof(double) + sizeof(float) + 2 * sizeof(int)) + (kBins + 2) * sizeof(int);

// Bits that order as the floats do; 0 and -0 are equal.
__device__ inline uint32_t ordered(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The largest of the block's numbers, in every thread.
__device__ inline uint64_t block_max(uint64_t value, uint64_t* scratch) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value = max(value, __shfl_xor_sync(kAllLanes, value, distance));
  __syncthreads();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  for (int i = 0; i < kDrawWarps; ++i) value = max(value, scratch[i]);
  return value;
}

// The first token with the largest logit, or kNotDrawn where some are NaN or +Inf, or all -Inf.
__device__ inline int best_token(const float* logits, int vocab, const Candidates& shared) {
  uint64_t best = 0;
  bool broken = false;
  for (int token = threadIdx.x; token < vocab; token += blockDim.x) {
    broken = broken || !(logits[token] <= FLT_MAX);
    best = max(best, uint64_t{ordered(logits[token])} << 32 | (0xffffffffu - static_cast<uint32_t>(token)));
  }
  best = block_max(broken ? ~uint64_t{0} : best, reinterpret_cast<uint64_t*>(shared.weight));
  const int token = static_cast<int>(0xffffffffu - static_cast<uint32_t>(best));
  return best == ~uint64_t{0} || !(logits[token] >= -FLT_MAX) ? kNotDrawn : token;
}

// The ordered bits of the k-th largest logit.
__device__ inline uint32_t kth_largest(const float* logits, int vocab, int k, const Candidates& shared) {
  int *bins = shared.number, *chosen = bins + kBins, *left = chosen + 1;
  const int own = threadIdx.x;
  uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (own < kBins) bins[own] = 0;
    __syncthreads();
    for (int token = own; token < vocab; token += blockDim.x) {
      const uint32_t bits = ordered(logits[token]);
      if (uint64_t{bits} >> (shift + 8) == prefix) atomicAdd(&bins[bits >> shift & 255], 1);
    }
    __syncthreads();
    int above = 0;
    for (int i = kBins - 1; i > own; --i) above += bins[i];
    if (own < kBins && above < k && k <= above + bins[own]) *chosen = own, *left = k - above;
    __syncthreads();
    prefix = prefix << 8 | static_cast<uint32_t>(*chosen);
    k = *left;
    __syncthreads();
  }
  return prefix;
}

__device__ inline double weight_of(float score, float best, float temperature) {
  return exp((static_cast<double>(score) - static_cast<double>(best)) / static_cast<double>(temperature));
}

// Gathers the tokens whose bits reach the threshold and whose weight is not 0; returns how many there are,
// also beyond kMostCandidates.
__device__ inline int gather(const float* logits, const DrawRequest& request, uint32_t threshold, float best,
                             const Candidates& shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int total = 0;
  for (int first = 0; first < request.vocab; first += kDrawThreads) {
    const int token = first + static_cast<int>(threadIdx.x);
    const float score = token < request.vocab ? logits[token] : 0.0f;
    const bool passes = token < request.vocab && ordered(score) >= threshold;
    const double weight = passes ? weight_of(score, best, request.temperature) : 0.0;
    const unsigned kept = __ballot_sync(kAllLanes, weight != 0.0);
    if (lane == 0) shared.number[warp] = __popc(kept);
    __syncthreads();
    int at = total + __popc(kept & ((1u << lane) - 1));
    for (int i = 0; i < kDrawWarps; ++i) {
      at += i < warp ? shared.number[i] : 0;
      total += shared.number[i];
    }
    if (weight != 0.0 && at < kMostCandidates)
      shared.weight[at] = weight, shared.score[at] = score, shared.token[at] = token;
    __syncthreads();
  }
  return total;
}

// By falling score, then by rising token.
__device__ inline void rank(const Candidates& shared, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const float own = shared.score[i];
    int before = 0;
    for (int j = 0; j < count; ++j) before += shared.score[j] > own || (shared.score[j] == own && j < i);
    shared.order[before] = i;
  }
  __syncthreads();
}

// One thread's work: how many ranks top_p keeps, and their weight.
__device__ inline int keep_top_p(const Candidates& shared, int count, float top_p, double* mass) {
  double total = 0;
  for (int i = 0; i < count; ++i) total += shared.weight[i];
  *mass = total;
  if (top_p >= 1.0f) return count;
  const double enough = static_cast<double>(top_p) * total;
  int kept = 1;
  *mass = shared.weight[shared.order[0]];
  for (; kept < count && *mass < enough; ++kept) *mass += shared.weight[shared.order[kept]];
  return kept;
}

__device__ inline int draw_ranked(const Candidates& shared, int count, const DrawRequest& request) {
  double mass = 0, sum = 0;
  const int kept = keep_top_p(shared, count, request.top_p, &mass);
  const double target = request.u * mass;
  for (int i = 0; i + 1 < kept; ++i) {
    sum += shared.weight[shared.order[i]];
    if (sum > target) return shared.token[shared.order[i]];
  }
  return shared.token[shared.order[kept - 1]];
}

// Grid: sequences.
__global__ void __launch_bounds__(kDrawThreads)
    draw(const float* all_logits, int vocab, const DrawRequest* requests, int32_t* tokens) {
  follow_previous();
  const Candidates shared(shared_memory());
  const DrawRequest request = requests[blockIdx.x];
  const float* logits = all_logits + int64_t{blockIdx.x} * vocab;
  const int best = best_token(logits, request.vocab, shared);
  if (best == kNotDrawn || request.greedy) {
    if (threadIdx.x == 0) tokens[blockIdx.x] = best;
    return;
  }
  const bool all = request.top_k == 0 || request.top_k >= request.vocab;
  const uint32_t threshold = all ? 0 : kth_largest(logits, request.vocab, request.top_k, shared);
  __syncthreads();
  const int count = gather(logits, request, threshold, logits[best], shared);
  if (count <= kMostCandidates) rank(shared, count);
  if (threadIdx.x == 0)
    tokens[blockIdx.x] = count <= kMostCandidates ? draw_ranked(shared, count, request) : kNotDrawn;
}

}  // namespace

bool drawn_on_device(const Draw& draw) {
  const SamplingOptions& options = draw.options;
  const SamplingOptions known{.do_sample = options.do_sample,
                              .temperature = options.temperature,
                              .top_k = options.top_k,
                              .top_p = options.top_p,
                              .seed = options.seed};
  return options == known && draw.banned.empty();  // the others are as they are when they do nothing
}

DrawRequest request_of(const Draw& draw) {
  const SamplingOptions& options = draw.options;
  return {uniform(options.seed, draw.step),
          options.temperature,
          options.top_p,
          static_cast<int>(std::min(options.top_k, draw.vocab)),
          static_cast<int>(draw.vocab),
          options.greedy()};
}

void draw_tokens(const float* logits, int vocab, const DrawRequest* requests, int count, int32_t* tokens,
                 cudaStream_t stream, bool overlap) {
  launch(stream, {dim3(static_cast<unsigned>(count)), dim3(kDrawThreads), kDrawShared, overlap}, draw, logits,
         vocab, requests, tokens);
}

}  // namespace bdh::cuda
