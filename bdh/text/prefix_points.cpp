// A chain of hashes: each point's of the one before it and the tokens between them.
#include "bdh/text/prefix_points.h"

#include "bdh/base/error.h"
#include "bdh/base/json.h"
#include "bdh/base/sha256.h"
#include "bdh/model/horizon.h"

namespace bdh {

namespace {

std::string hash_of(const std::string& before, std::span<const int32_t> tokens) {
  Sha256 sum;
  sum.add(std::as_bytes(std::span(before)));
  sum.add(std::as_bytes(tokens));
  return sum.finish();
}

std::string kind_of(const Session& session, int64_t grid) {
  const Weights& weights = session.weights();
  return concat(weights.hash(), " ", weights.config().to_json().dump(), " ", name_of(weights.dtype()), " ",
                weights.backend().name(), " ", horizon_text(session.options().horizon), " ",
                name_of(session.options().state_dtype), " ", grid);
}

}  // namespace

std::vector<std::string> prefix_points(const Session& session, std::span<const int32_t> tokens,
                                       int64_t grid) {
  const auto size = static_cast<size_t>(grid);
  std::vector<std::string> names;
  std::string name = kind_of(session, grid);
  for (size_t end = size; end < tokens.size(); end += size) {
    name = hash_of(name, tokens.subspan(end - size, size));
    names.push_back(name);
  }
  return names;
}

}  // namespace bdh
