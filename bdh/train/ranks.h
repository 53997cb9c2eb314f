// Ranks: the processes of one training run. One by default; several under MPI.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace bdh {

class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// To and from one other rank, in order. Throws Error(io) where it is gone.
  virtual void send(std::span<const std::byte> bytes, int to) = 0;
  virtual void receive(std::span<std::byte> bytes, int from) = 0;
  /// From rank 0 to all.
  virtual void broadcast(std::span<std::byte> bytes) = 0;
  virtual void barrier() = 0;
};

std::unique_ptr<Ranks> single_rank();

}  // namespace bdh
