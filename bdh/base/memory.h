// Large zeroed memory: page aligned, in huge pages where the system has them, refused in words when it does
// not fit; and pages given back.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace bdh {

/// Memory the system could still hand out, in bytes (Linux: MemAvailable, and the cgroup's or RLIMIT_AS's
/// limit).
size_t available_memory();

/// The most memory this process has had resident so far, in bytes; pages of mapped files count. 0
/// where the system does not say.
size_t peak_resident_memory();

/// `bytes` of zeroed memory, aligned to at least 64. `what` names it in the error.
/// Throws Error(out_of_memory) with the bytes needed and available.
std::shared_ptr<std::byte> allocate_zeroed(size_t bytes, std::string_view what);

/// Tells the system that these bytes will not be needed soon, so that they no longer count as resident. Those
/// of a mapped file are read from it again; those of allocate_zeroed are zeros. Only whole pages inside the
/// range are given back.
void release_pages(std::span<const std::byte> bytes);

/// "25.3 MB": decimal units, as disks and model cards count.
std::string format_bytes(size_t bytes);

}  // namespace bdh
