// Cases of the CPU kernels. Shapes are those of the default model (D 256, H 4, N 8192) read in chunks of 256
// tokens.
#include "bench/cpu/kernels.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>

#include "bdh/base/dtype.h"
#include "bdh/base/error.h"
#include "bdh/base/threads.h"
#include "bench/source.h"
#include "kernels/cpu/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/state.h"
#include "kernels/cpu/tiles.h"

namespace bdh::bench {

namespace {

using cpu::Kernels;
using cpu::kTileNeurons;
using cpu::Rows;

constexpr int64_t kWidth = 256, kHeads = 4, kNeurons = 8192, kAllNeurons = kHeads * kNeurons;
constexpr int64_t kTokens = 256;
constexpr int64_t kBlock = 128;    // neurons whose activations a chunk has in flight
constexpr int64_t kRowBlock = 64;  // rows of scores made at once
constexpr int64_t kGroup = 1024;   // neurons that share one partial sum
constexpr int64_t kFloat = sizeof(float);

// Densities of the trained model and, of a new one, n and pairs.
constexpr double kTrainedN = 0.25, kTrainedG = 0.05, kTrainedPairs = 0.44, kNewN = 0.5, kNewPairs = 0.75;

// `parts` independent calls, which threads share, round after round.
struct Task {
  std::string name, shape, dtype;
  int64_t parts;
  Work work;  // of all parts
  std::function<void(const Kernels&, int64_t part, int64_t round)> call;
};

CpuCase case_of(const Task& task, const std::string& isa, int threads) {
  return {.of = {.kind = Kind::kernel,
                 .name = task.name,
                 .shape = task.shape,
                 .dtype = task.dtype,
                 .variant = isa,
                 .threads = threads},
          .run = [=](benchmark::State& state) {
            const Kernels& kernels = cpu::kernels_for(isa);
            ThreadPool pool(threads);
            int64_t round = 0;
            const auto all = [&] {
              pool.run(task.parts, [&](int64_t part, int) { task.call(kernels, part, round); });
              ++round;
            };
            all();
            time_each(state, all);
            return task.work;
          }};
}

/// Floats to compute with, ordinary numbers.
struct Floats {
  explicit Floats(int64_t count) : memory(random_numbers(count * kFloat)) {}
  float* at(int64_t i) const { return reinterpret_cast<float*>(memory.get()) + i; }
  std::shared_ptr<std::byte> memory;
};

// ---- rows ----

// Which rows of each tile are active.
struct Selection {
  std::string name;
  double density;
  bool pairs;  // both neurons of a pair, or each on its own
};

std::vector<int32_t> active_rows(const Selection& selection, uint32_t seed) {
  std::mt19937 random(seed);
  std::bernoulli_distribution active(selection.density);
  std::vector<int32_t> index;
  for (int32_t i = 0; i < kTileNeurons; i += selection.pairs ? 2 : 1) {
    if (!active(random)) continue;
    index.push_back(i);
    if (selection.pairs) index.push_back(i + 1);
  }
  return index;
}

// Different selections, which tiles take in turn, others each round: the same few rows would come to stay in
// cache.
constexpr int64_t kLists = 16;

std::vector<std::vector<int32_t>> selections(const Selection& selection) {
  std::vector<std::vector<int32_t>> lists;
  for (uint32_t i = 0; i < kLists; ++i) lists.push_back(active_rows(selection, i));
  return lists;
}

enum class Reading { dot, accumulate };

int64_t row_bytes_of(DType dtype) {
  return dtype == DType::u8 ? kWidth / 2 : kWidth * static_cast<int64_t>(size_of(dtype));
}

// Scales that all tiles share, so that rows of any bytes are quantized ones.
const uint16_t* scales_of(DType dtype) {
  static const std::vector<uint16_t> scales(kTileNeurons * kWidth / 32, f32_to_f16(1e-3f));
  return dtype == DType::i8 || dtype == DType::u8 ? scales.data() : nullptr;
}

// One tile that stays in cache, or as many as the large block holds.
Task rows_task(Reading reading, DType dtype, const Selection& selection, bool from_memory) {
  const auto row_bytes = row_bytes_of(dtype);
  const int64_t tiles = from_memory ? large_block().bytes / (kTileNeurons * row_bytes) : 1;
  const bool dense = selection.density == 1;
  const auto lists = selections(selection);
  const Floats x(kWidth), scale(kTileNeurons), out(tiles * kTileNeurons);
  double rows = 0;
  for (const auto& list : lists)
    rows += static_cast<double>(list.size()) * static_cast<double>(tiles) / kLists;
  const auto call = [=](const Kernels& kernels, int64_t part, int64_t round) {
    const std::vector<int32_t>& list = lists[(part + round) % kLists];
    const Rows tile{large_block().data + part * kTileNeurons * row_bytes, dtype,
                    row_bytes / static_cast<int64_t>(size_of(dtype)), scales_of(dtype),
                    dtype == DType::u8 ? kWidth / 32 : 1};
    const int32_t* index = dense ? nullptr : list.data();
    const auto count = static_cast<int64_t>(list.size());
    float* to = out.at(part * kTileNeurons);
    if (reading == Reading::dot) {
      kernels.dot_rows(tile, index, count, kWidth, x.at(0), to);
    } else {
      std::fill(to, to + kWidth, 0.0f);
      kernels.accumulate_rows(tile, index, scale.at(0), count, kWidth, to);
    }
  };
  const double bytes = rows * static_cast<double>(row_bytes);
  return {reading == Reading::dot ? "dot_rows" : "accumulate_rows",
          concat(selection.name, from_memory ? ", memory" : ", cache"),
          option_name(dtype),
          tiles,
          {.bytes = bytes, .working_set = from_memory ? static_cast<double>(large_block().bytes) : bytes},
          call};
}

std::vector<Task> row_tasks() {
  const Selection all{"all rows (E)", 1, false}, trained_n{"25 % (Ev, trained)", kTrainedN, false},
      new_n{"50 % (Ev, new)", kNewN, false}, trained_g{"5 % (decoder, trained)", kTrainedG, false},
      new_g{"25 % (decoder, new)", kTrainedN, false},
      trained_pairs{"44 % by pairs (S, trained)", kTrainedPairs, true},
      new_pairs{"75 % by pairs (S, new)", kNewPairs, true};
  std::vector<Task> tasks;
  for (const bool from_memory : {false, true}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i8, DType::u8}) {
      for (const Selection& s : {all, trained_n, new_n})
        tasks.push_back(rows_task(Reading::dot, dtype, s, from_memory));
      for (const Selection& s : {trained_g, new_g})
        tasks.push_back(rows_task(Reading::accumulate, dtype, s, from_memory));
    }
    for (const Selection& s : {trained_pairs, new_pairs}) {
      tasks.push_back(rows_task(Reading::accumulate, DType::f32, s, from_memory));
    }
  }
  return tasks;
}

// ---- flush ----

// The window's tokens added to S: one tile that stays in cache, or as many as fill half the large block.
Task flush_task(DType dtype, bool from_memory) {
  using cpu::kWindow;
  const int64_t tile_bytes = kTileNeurons * row_bytes_of(dtype),
                tiles = from_memory ? large_block().bytes / (2 * tile_bytes) : 1;
  const std::shared_ptr<std::byte> s = random_numbers(tiles * tile_bytes);
  const Floats r(kWindow * kTileNeurons), x(kWindow * kWidth);
  for (int64_t t = 0; t < kWindow; ++t) {
    std::vector<uint8_t> active(kTileNeurons, 0);
    for (const int32_t neuron : active_rows({"", kNewPairs, true}, static_cast<uint32_t>(t)))
      active[neuron] = 1;
    for (int64_t i = 0; i < kTileNeurons; ++i) *r.at(t * kTileNeurons + i) *= active[i];
  }
  std::vector<int32_t> slots(kWindow);
  std::iota(slots.begin(), slots.end(), 0);
  const std::vector<float> worth(kWindow, 1.0f);
  const auto bytes = static_cast<double>(tiles * tile_bytes);
  const double flops = 2 * kNewPairs * static_cast<double>(kWindow * tiles * kTileNeurons * kWidth);
  return {"flush",
          concat(kWindow, " tokens, 75 % by pairs, ", from_memory ? "memory" : "cache"),
          option_name(dtype),
          tiles,
          {.bytes = 2 * bytes, .written = bytes, .flops = flops, .working_set = bytes},
          [=](const Kernels& kernels, int64_t part, int64_t) {
            kernels.flush(
                s.get() + part * tile_bytes, dtype, kTileNeurons, kWidth,
                {kWindow, slots.data(), r.at(0), x.at(0), kTileNeurons, kWidth, worth.data(), 1.0f});
          }};
}

std::vector<Task> flush_tasks() {
  std::vector<Task> tasks;
  for (const bool from_memory : {false, true}) {
    for (const DType dtype : {DType::f32, DType::bf16}) tasks.push_back(flush_task(dtype, from_memory));
  }
  return tasks;
}

// ---- products: C (m, n) += A (m, k) B (k, n), as chunk.cpp, state.cpp and embedding.cpp call for them ----

std::vector<float> frequencies(int64_t count) {
  std::vector<float> freqs(count);
  for (int64_t i = 0; i < count; ++i) freqs[i] = 0.159f / static_cast<float>(1 + i / 2);
  return freqs;
}

// What is read stays as it is, so that no number grows from one call to the next; S alone is added to, a
// little each time.
struct Operands {
  Floats activations{kAllNeurons * kTokens};  // (H*N, T): n, r or g
  Floats weights{kAllNeurons * kWidth};       // (H*N, D): E or the decoder
  Floats tokens{kHeads * kTokens * kWidth};   // (T, D) for each head: x, scores
  Floats state{kAllNeurons * kWidth};         // (H*N, D)
  Floats out{kAllNeurons * kTokens};
  Floats rotated{kAllNeurons * kTokens};
  Floats sparse{kAllNeurons * kTokens};  // as activations, but a quarter of them is not zero
  std::vector<float> freqs = frequencies(kNeurons), positions = std::vector<float>(kTokens);

  Operands() {
    std::mt19937 random(1);
    std::bernoulli_distribution active(0.25);
    for (int64_t i = 0; i < kAllNeurons * kTokens; ++i) {
      if (!active(random)) *sparse.at(i) = 0;
    }
    std::iota(positions.begin(), positions.end(), 0.0f);
  }
};

// A: rows one after the other, or columns of kTokens.
struct Left {
  const float* data;
  int64_t row, column;
};
Left by_rows(const float* data, int64_t length) { return {data, length, 1}; }
Left by_columns(const float* data) { return {data, 1, kTokens}; }

// B and C have rows of n, one after the other.
cpu::Product product_of(int64_t m, int64_t n, int64_t k, const Left& a, const void* b, float* c,
                        bool add = false, DType dtype = DType::f32) {
  return {m, n, k, a.data, a.row, a.column, {b, dtype, n}, c, n, add};
}

using Call = std::function<void(const Kernels&, const cpu::Product&, int64_t part)>;

void multiply(const Kernels& kernels, const cpu::Product& product, int64_t) { kernels.multiply(product); }

// Products 0 .. parts * together - 1; those of one part add to the same C, so one thread makes them all.
Task product_task(const std::string& name, int64_t parts, int64_t together, double bytes, DType dtype,
                  const std::function<cpu::Product(int64_t)>& product, const Call& call = multiply) {
  const cpu::Product one = product(0);
  const auto count = static_cast<double>(parts * together);
  return {
      name,
      concat(one.m, " x ", one.n, " x ", one.k, ", ", parts * together, " times"),
      option_name(dtype),
      parts,
      {.bytes = bytes, .flops = 2 * count * static_cast<double>(one.m * one.n * one.k), .working_set = bytes},
      [=](const Kernels& kernels, int64_t part, int64_t) {
        for (int64_t i = 0; i < together; ++i) {
          const int64_t which = part * together + i;
          call(kernels, product(which), which);
        }
      }};
}

// Activations times `rows` (H*N, D) of that dtype: blocks of a group add up.
Task neurons_task(const std::string& name, const std::shared_ptr<Operands>& o, const Floats& activations,
                  const std::byte* rows, DType dtype, const Call& call = multiply) {
  const auto row_bytes = kWidth * static_cast<int64_t>(size_of(dtype));
  return product_task(
      name, kAllNeurons / kGroup, kGroup / kBlock,
      kAllNeurons * static_cast<double>(row_bytes + kTokens * kFloat), dtype,
      [=](int64_t part) {
        const int64_t row = part * kBlock;
        return product_of(kTokens, kWidth, kBlock, by_columns(activations.at(row * kTokens)),
                          rows + row * row_bytes, o->out.at(row / kGroup * kTokens * kWidth),
                          row % kGroup != 0, dtype);
      },
      call);
}

// Products of a block of neurons with all tokens.
std::vector<Task> encode_tasks(const std::shared_ptr<Operands>& o) {
  constexpr int64_t kBlocks = kAllNeurons / kBlock;
  const double rows = kAllNeurons * static_cast<double>(kWidth * kFloat);  // E or, as T is D, activations
  const auto product = [=](int64_t block) {
    return product_of(kBlock, kTokens, kWidth, by_rows(o->weights.at(block * kBlock * kWidth), kWidth),
                      o->tokens.at(0), o->out.at(block * kBlock * kTokens));
  };
  return {
      product_task("multiply: x E", kBlocks, 1, 2 * rows, DType::f32, product),
      product_task(
          "encode: x E, ReLU, rotation", kBlocks, 1, 3 * rows, DType::f32, product,
          [=](const Kernels& kernels, const cpu::Product& p, int64_t block) {
            const float* freqs = o->freqs.data() + block * kBlock % kNeurons;
            kernels.encode(p, {freqs, o->positions.data(), nullptr}, o->rotated.at(block * kBlock * kTokens));
          }),
      product_task("gate: a E_v, ReLU, times n", kBlocks, 1, 3 * rows, DType::f32, product,
                   [=](const Kernels& kernels, const cpu::Product& p, int64_t block) {
                     kernels.gate(p, o->activations.at(block * kBlock * kTokens), kTokens);
                   })};
}

std::vector<Task> product_tasks() {
  constexpr int64_t kVocabulary = 256;
  const auto o = std::make_shared<Operands>();
  const int64_t blocks = kAllNeurons / kBlock, row_blocks = kTokens / kRowBlock;
  const double rows = kAllNeurons * static_cast<double>(kWidth * kFloat);  // E, S or, as T is D, activations
  std::vector<Task> tasks = encode_tasks(o);
  const auto add = [&](const char* name, int64_t parts, double bytes,
                       const std::function<cpu::Product(int64_t)>& product) {
    tasks.push_back(product_task(concat("multiply: ", name), parts, 1, bytes, DType::f32, product));
  };
  tasks.push_back(neurons_task("multiply: r S", o, o->activations, o->state.memory.get(), DType::f32));
  add("S += r^T x", blocks, 3 * rows, [=](int64_t part) {
    const int64_t row = part * kBlock;
    return product_of(kBlock, kWidth, kTokens, by_rows(o->activations.at(row * kTokens), kTokens),
                      o->tokens.at(0), o->state.at(row * kWidth), true);
  });
  add("r r^T", kHeads * row_blocks, rows, [=](int64_t part) {
    const int64_t head = part / row_blocks, row = part % row_blocks * kRowBlock;
    const float* r = o->activations.at(head * kNeurons * kTokens);
    return product_of(kRowBlock, kTokens, kNeurons, by_columns(r + row), r,
                      o->out.at(part * kRowBlock * kTokens));
  });
  add("scores x", kHeads * row_blocks, 2.0 * kHeads * kTokens * kWidth * kFloat, [=](int64_t part) {
    return product_of(kRowBlock, kWidth, kTokens, by_rows(o->tokens.at(part * kRowBlock * kTokens), kTokens),
                      o->tokens.at(0), o->out.at(part * kRowBlock * kWidth));
  });
  const std::byte* decoder = o->weights.memory.get();
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    tasks.push_back(neurons_task("multiply: g decoder", o, o->activations, decoder, dtype));
  Task sparse =
      neurons_task("add_sparse: g decoder", o, o->sparse, decoder, DType::f32,
                   [](const Kernels& kernels, const cpu::Product& p, int64_t) { kernels.add_sparse(p); });
  sparse.shape += ", 25 % of g";
  sparse.work.flops /= 4;
  tasks.push_back(sparse);
  add("x lm_head", row_blocks, 3.0 * kTokens * kWidth * kFloat, [=](int64_t part) {
    return product_of(kRowBlock, kVocabulary, kWidth,
                      by_rows(o->tokens.at(part * kRowBlock * kWidth), kWidth), o->weights.at(0),
                      o->out.at(part * kRowBlock * kVocabulary));
  });
  return tasks;
}

// ---- element by element ----

Floats ones_and_zeros(int64_t count) {
  Floats n(count);
  std::mt19937 random(1);
  for (int64_t i = 0; i < count; ++i) *n.at(i) = static_cast<float>(random() % 2);
  return n;
}

// A block of neurons that stays in cache, or as many as the large block holds.
Task count_task(bool from_memory) {
  const int64_t block = kBlock * kTokens, parts = from_memory ? large_block().bytes / (block * kFloat) : 1;
  const Floats n = ones_and_zeros(parts * block);
  const auto bytes = static_cast<double>(parts * block * kFloat);
  return {"count_active",
          concat(kBlock, " neurons x ", kTokens, " tokens, ", from_memory ? "memory" : "cache"),
          "f32",
          parts,
          {.bytes = bytes, .working_set = bytes},
          [=](const Kernels& kernels, int64_t part, int64_t) {
            benchmark::DoNotOptimize(kernels.count_active(n.at(part * block), kTokens, kBlock, kTokens));
          }};
}

// One token's rotation, a tile at a time, and the norm of one row after another.
std::vector<Task> token_tasks() {
  const Floats n = ones_and_zeros(kAllNeurons), out(kAllNeurons);
  const std::vector<float> freqs = frequencies(kNeurons);
  const auto bytes = static_cast<double>(kAllNeurons * kFloat);
  return {
      {"rotate",
       concat(kTileNeurons, " neurons, ", kAllNeurons / kTileNeurons, " times"),
       "f32",
       kAllNeurons / kTileNeurons,
       {.bytes = 4 * bytes, .written = 2 * bytes, .working_set = 3 * bytes},  // n and freqs; n and r
       [=](const Kernels& kernels, int64_t part, int64_t) {
         const int64_t first = part * kTileNeurons;
         kernels.rotate(n.at(first), freqs.data() + first % kNeurons, kTileNeurons, 512.0f, out.at(first));
       }},
      {"norm",
       concat(kWidth, " wide, ", kAllNeurons / kWidth, " rows"),
       "f32",
       kAllNeurons / kWidth,
       {.bytes = 2 * bytes, .written = bytes, .working_set = 2 * bytes},
       [=](const Kernels& kernels, int64_t part, int64_t) {
         kernels.norm(n.at(part * kWidth), kWidth, kWidth, out.at(part * kWidth));
       }},
  };
}

// Blocks of rows converted to float32, one after the other into a buffer that stays in cache.
Task widen_task(DType dtype, bool from_memory) {
  constexpr int64_t kCount = kBlock * kWidth;
  const auto bytes = kCount * static_cast<int64_t>(size_of(dtype));
  const int64_t blocks = from_memory ? large_block().bytes / bytes : 1;
  const Floats out(kCount);
  const auto read = static_cast<double>(blocks * bytes);
  const double written = from_memory ? 0 : kCount * kFloat;  // else into a buffer that stays in cache
  return {"widen",
          concat(kBlock, " rows, ", from_memory ? "memory" : "cache"),
          option_name(dtype),
          1,
          {.bytes = read + written, .written = written, .working_set = read + written},
          [=](const Kernels& kernels, int64_t, int64_t) {
            for (int64_t i = 0; i < blocks; ++i)
              kernels.widen(large_block().data + i * bytes, dtype, kCount, out.at(0));
          }};
}

std::vector<Task> element_tasks() {
  std::vector<Task> tasks = token_tasks();
  for (const bool from_memory : {false, true}) {
    tasks.push_back(count_task(from_memory));
    for (const DType dtype : {DType::bf16, DType::f16}) tasks.push_back(widen_task(dtype, from_memory));
  }
  return tasks;
}

}  // namespace

std::vector<CpuCase> kernel_cases(const Machine& machine, bool quick) {
  std::vector<Task> tasks;
  for (const auto& some : {row_tasks(), flush_tasks(), product_tasks(), element_tasks()})
    tasks.insert(tasks.end(), some.begin(), some.end());
  const std::vector<std::string> isas = cpu::available_isas();
  std::vector<CpuCase> cases;
  for (const Task& task : tasks) {
    for (const std::string& isa : isas) {
      if (quick && isa != isas.front()) continue;
      cases.push_back(case_of(task, isa, 1));
    }
    // With all cores the best one alone, where there is enough to share.
    if (machine.cores > 1 && task.parts >= 4 * machine.cores)
      cases.push_back(case_of(task, isas.front(), machine.cores));
  }
  return cases;
}

}  // namespace bdh::bench
