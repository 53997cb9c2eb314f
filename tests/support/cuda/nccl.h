// The part of NCCL that the backend uses, between threads of this process.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

struct ncclUniqueId {
  char internal[128];
};
using ncclComm_t = struct ncclComm*;
enum ncclResult_t { ncclSuccess = 0, ncclInvalidUsage = 5, ncclRemoteError = 6 };
enum ncclDataType_t { ncclFloat32 = 7 };

const char* ncclGetErrorString(ncclResult_t status);
ncclResult_t ncclGetUniqueId(ncclUniqueId* id);
ncclResult_t ncclCommInitRank(ncclComm_t* communicator, int size, ncclUniqueId id, int rank);
ncclResult_t ncclCommAbort(ncclComm_t communicator);
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream);
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream);
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream);

namespace emulation {

/// Planes that were sent or shared by all communicators so far.
size_t nccl_messages();

}  // namespace emulation
