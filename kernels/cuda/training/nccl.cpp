// Opening NCCL, and sending planes with it in the backend's stream.
#include "kernels/cuda/training/nccl.h"

#if __has_include(<nccl.h>)

#include <dlfcn.h>
#include <nccl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "bdh/base/error.h"
#include "kernels/cuda/training/planes.h"

namespace bdh::cuda {

namespace {

struct Nccl {
  decltype(&ncclGetErrorString) error_string;
  decltype(&ncclGetUniqueId) unique_id;
  decltype(&ncclCommInitRank) init_rank;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclSend) send;
  decltype(&ncclRecv) receive;
  decltype(&ncclBroadcast) broadcast;
};

#ifdef BDH_CUDA_EMULATED
std::optional<Nccl> open_nccl() {
  return Nccl{ncclGetErrorString, ncclGetUniqueId, ncclCommInitRank, ncclCommAbort,
              ncclSend,           ncclRecv,        ncclBroadcast};
}
#else
template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

std::optional<Nccl> open_nccl() {
  void* library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return {};
  Nccl nccl{};
  const bool all = find(library, "ncclGetErrorString", nccl.error_string) &&
                   find(library, "ncclGetUniqueId", nccl.unique_id) &&
                   find(library, "ncclCommInitRank", nccl.init_rank) &&
                   find(library, "ncclCommAbort", nccl.abort) && find(library, "ncclSend", nccl.send) &&
                   find(library, "ncclRecv", nccl.receive) && find(library, "ncclBroadcast", nccl.broadcast);
  return all ? std::optional(nccl) : std::nullopt;
}
#endif

const std::optional<Nccl>& nccl() {
  static const std::optional<Nccl> found = open_nccl();
  return found;
}

void check(ncclResult_t status, const char* what) {
  if (status == ncclSuccess) return;
  fail(ErrorKind::io, "NCCL: ", what, ": ", nccl()->error_string(status),
       "; NCCL_DEBUG=INFO says more, and with BDH_NCCL=0 the ranks do without it");
}

class NcclLink : public PlaneLink {
 public:
  NcclLink(std::shared_ptr<const Queue> queue, std::shared_ptr<std::mutex> mutex, int64_t floats,
           const ncclUniqueId& id, int rank, int size)
      : queue_(std::move(queue)), mutex_(std::move(mutex)), floats_(static_cast<size_t>(floats)) {
    queue_->select();
    check(nccl()->init_rank(&communicator_, size, id, rank), "connecting the GPUs");
  }
  /// Does not wait for ranks that are gone.
  ~NcclLink() override {
    cudaSetDevice(queue_->device);
    nccl()->abort(communicator_);
  }
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  void send(const Plane& plane, int to) override {
    in_stream("sending a gradient", [&](cudaStream_t stream) {
      return nccl()->send(data(plane), floats_, ncclFloat32, to, communicator_, stream);
    });
  }
  void receive(Plane& plane, int from) override {
    in_stream("receiving a gradient", [&](cudaStream_t stream) {
      return nccl()->receive(data(plane), floats_, ncclFloat32, from, communicator_, stream);
    });
  }
  void broadcast(Plane& plane) override {
    in_stream("sharing parameters", [&](cudaStream_t stream) {
      return nccl()->broadcast(data(plane), data(plane), floats_, ncclFloat32, 0, communicator_, stream);
    });
  }

 private:
  static float* data(const Plane& plane) { return static_cast<const DevicePlane&>(plane).data(); }

  template <class Start>
  void in_stream(const char* what, const Start& start) {
    const std::lock_guard lock(*mutex_);
    queue_->select();
    check(start(queue_->stream.get()), what);
    queue_->stream.wait();
  }

  std::shared_ptr<const Queue> queue_;
  std::shared_ptr<std::mutex> mutex_;
  size_t floats_;
  ncclComm_t communicator_ = nullptr;
};

bool wanted() {
  const char* value = std::getenv("BDH_NCCL");
  return value == nullptr || std::string_view(value) != "0";
}

}  // namespace

std::string nccl_device(const Queue& queue) {
  char bus[32] = {}, machine[65] = {};
  const bool known = wanted() && nccl() && gethostname(machine, sizeof machine - 1) == 0 &&
                     cudaDeviceGetPCIBusId(bus, sizeof bus, queue.device) == cudaSuccess;
  return known ? std::string(machine) + ' ' + bus : std::string();
}

LinkKey new_nccl_key() {
  ncclUniqueId id;
  check(nccl()->unique_id(&id), "making a key");
  LinkKey key;
  static_assert(sizeof id == sizeof key);
  std::memcpy(&key, &id, sizeof key);
  return key;
}

std::unique_ptr<PlaneLink> nccl_link(std::shared_ptr<const Queue> queue, std::shared_ptr<std::mutex> mutex,
                                     int64_t floats, const LinkKey& key, int rank, int size) {
  ncclUniqueId id;
  std::memcpy(&id, &key, sizeof id);
  return std::make_unique<NcclLink>(std::move(queue), std::move(mutex), floats, id, rank, size);
}

}  // namespace bdh::cuda

#else

namespace bdh::cuda {

std::string nccl_device(const Queue&) { return {}; }
LinkKey new_nccl_key() { return {}; }
std::unique_ptr<PlaneLink> nccl_link(std::shared_ptr<const Queue>, std::shared_ptr<std::mutex>, int64_t,
                                     const LinkKey&, int, int) {
  return nullptr;
}

}  // namespace bdh::cuda

#endif
