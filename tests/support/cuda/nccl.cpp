// Communicators as mailboxes that threads share. A call is done when it returns, whatever the stream.
#include "nccl.h"

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/cuda/emulator.h"

namespace {

using Message = std::vector<float>;

struct Group {
  std::mutex mutex;
  std::condition_variable changed;
  int joined = 0;
  std::map<std::pair<int, int>, std::deque<Message>> boxes;  // from, to
};

std::mutex groups_mutex;
std::map<std::string, std::weak_ptr<Group>> groups;
std::atomic<size_t> messages{0};

std::shared_ptr<Group> group_of(const ncclUniqueId& id) {
  const std::lock_guard lock(groups_mutex);
  std::weak_ptr<Group>& known = groups[id.internal];
  auto group = known.lock();
  if (!group) known = group = std::make_shared<Group>();
  return group;
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Group> group;
  int rank, size, device;
};

namespace {

bool usable(const ncclComm* communicator, cudaStream_t stream) {
  int device = -1;
  return cudaGetDevice(&device) == cudaSuccess && device == communicator->device &&
         cudaStreamSynchronize(stream) == cudaSuccess;
}

void put(ncclComm* communicator, const void* from, size_t count, int to) {
  Message message(count);
  std::memcpy(message.data(), from, count * sizeof(float));
  const std::lock_guard lock(communicator->group->mutex);
  communicator->group->boxes[{communicator->rank, to}].push_back(std::move(message));
  communicator->group->changed.notify_all();
  ++messages;
}

ncclResult_t take(ncclComm* communicator, void* to, size_t count, int from) {
  std::unique_lock lock(communicator->group->mutex);
  auto& box = communicator->group->boxes[{from, communicator->rank}];
  communicator->group->changed.wait(lock, [&] { return !box.empty(); });
  const Message message = std::move(box.front());
  box.pop_front();
  if (message.size() != count) return ncclInvalidUsage;
  std::memcpy(to, message.data(), count * sizeof(float));
  return ncclSuccess;
}

}  // namespace

namespace emulation {

size_t nccl_messages() { return messages; }

}  // namespace emulation

const char* ncclGetErrorString(ncclResult_t status) {
  return status == ncclSuccess ? "no error" : status == ncclRemoteError ? "remote error" : "invalid usage";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> number{0};
  *id = {};
  std::snprintf(id->internal, sizeof id->internal, "group %d", ++number);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* communicator, int size, ncclUniqueId id, int rank) {
  auto made = std::make_unique<ncclComm>(ncclComm{group_of(id), rank, size, 0});
  if (cudaGetDevice(&made->device) != cudaSuccess) return ncclInvalidUsage;
  std::unique_lock lock(made->group->mutex);
  ++made->group->joined;
  made->group->changed.notify_all();
  made->group->changed.wait(lock, [&] { return made->group->joined == size; });
  lock.unlock();
  *communicator = made.release();
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  delete communicator;
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t, int peer, ncclComm_t communicator,
                      cudaStream_t stream) {
  if (!usable(communicator, stream)) return ncclInvalidUsage;
  put(communicator, from, count, peer);
  return ncclSuccess;
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t, int peer, ncclComm_t communicator,
                      cudaStream_t stream) {
  if (!usable(communicator, stream)) return ncclInvalidUsage;
  return take(communicator, to, count, peer);
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  if (!usable(communicator, stream)) return ncclInvalidUsage;
  if (communicator->rank != root) return take(communicator, to, count, root);
  for (int rank = 0; rank < communicator->size; ++rank)
    if (rank != root) put(communicator, from, count, rank);
  return ncclSuccess;
}
