// A prefix tree over bytes: what a text begins with.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace bdh::tokenizers {

class ByteTrie {
 public:
  using Node = uint32_t;
  static constexpr Node kRoot = 0;
  static constexpr int32_t kNone = -1;

  ByteTrie() : ByteTrie(std::vector<std::pair<std::string_view, int32_t>>{}) {}
  /// Of two equal texts the first counts.
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> texts);

  /// The node reached over `byte`, or kRoot when there is none.
  Node child(Node node, char byte) const {
    const Inner& inner = nodes_[node];
    const void* found =
        std::memchr(labels_.data() + inner.first, static_cast<unsigned char>(byte), inner.count);
    return found ? static_cast<Node>(static_cast<const unsigned char*>(found) - labels_.data()) : kRoot;
  }
  /// The value of the text that ends at the node, or kNone.
  int32_t value(Node node) const { return nodes_[node].value; }

 private:
  struct Inner {
    uint32_t first = 0;  // its children are consecutive nodes
    uint32_t count = 0;
    int32_t value = kNone;
  };

  std::vector<Inner> nodes_;
  std::vector<unsigned char> labels_;  // the byte that leads to each node
};

}  // namespace bdh::tokenizers
