// The tree is built level by level from the sorted texts, so that the children of a node lie side by side.
#include "bdh/text/tokenizers/byte_trie.h"

#include <algorithm>
#include <limits>

#include "bdh/base/error.h"

namespace bdh::tokenizers {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, int32_t>> texts) {
  struct Part {  // the texts below a node
    size_t begin, end, depth;
  };
  std::stable_sort(texts.begin(), texts.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  nodes_.emplace_back();
  labels_.push_back(0);
  std::vector<Part> parts{{0, texts.size(), 0}};
  for (size_t node = 0; node < nodes_.size(); ++node) {
    size_t at = parts[node].begin;
    const size_t end = parts[node].end, depth = parts[node].depth;
    if (at < end && texts[at].first.size() == depth) nodes_[node].value = texts[at].second;
    while (at < end && texts[at].first.size() == depth) ++at;
    nodes_[node].first = static_cast<uint32_t>(nodes_.size());
    while (at < end) {
      const char label = texts[at].first[depth];
      const auto next = std::find_if(texts.begin() + static_cast<ptrdiff_t>(at),
                                     texts.begin() + static_cast<ptrdiff_t>(end),
                                     [&](const auto& text) { return text.first[depth] != label; });
      const auto stop = static_cast<size_t>(next - texts.begin());
      if (nodes_.size() >= std::numeric_limits<uint32_t>::max())
        fail(ErrorKind::unsupported, "the vocabulary is too large");
      nodes_.emplace_back();
      labels_.push_back(static_cast<unsigned char>(label));
      parts.push_back({at, stop, depth + 1});
      ++nodes_[node].count;
      at = stop;
    }
  }
}

}  // namespace bdh::tokenizers
