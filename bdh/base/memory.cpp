// Zeroed memory, how much of it there is, and pages given back.
#include "bdh/base/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "bdh/base/error.h"
#include "bdh/base/lines.h"

namespace bdh {
namespace {

constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();
constexpr size_t kHugePageThreshold = size_t{4} << 20;
constexpr size_t kCheckedThreshold = size_t{16} << 20;
constexpr size_t kAlignment = 64;

size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

// A file of the kernel's, which tells no size; empty where there is none.
std::string read_kernel_file(const std::filesystem::path& path) {
  std::string text;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return text;
  char block[4096];
  for (ssize_t got = 0; (got = ::read(file, block, sizeof block)) > 0;)
    text.append(block, static_cast<size_t>(got));
  ::close(file);
  return text;
}

// The number that a text begins with, after blanks; nothing where it begins otherwise, as with "max".
std::optional<uint64_t> leading_number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) return std::nullopt;
  return value;
}

std::optional<uint64_t> read_number(const std::filesystem::path& path) {
  return leading_number(read_kernel_file(path));
}

// The number after a key at the start of a line, as in "MemAvailable:  123 kB" and "inactive_file 123".
std::optional<uint64_t> read_field(const std::filesystem::path& path, std::string_view key) {
  const std::string file = read_kernel_file(path);
  for (std::string_view text = file; !text.empty();) {
    const std::string_view line = next_line(text);
    const std::string_view value = line.substr(std::min(key.size(), line.size()));
    if (line.starts_with(key) && value.find_first_of(" \t") == 0) return leading_number(value);
  }
  return std::nullopt;
}

size_t difference_or_zero(uint64_t limit, uint64_t used) {
  return limit > used ? static_cast<size_t>(limit - used) : 0;
}

size_t system_available() {
  if (const auto kilobytes = read_field("/proc/meminfo", "MemAvailable:"))
    return static_cast<size_t>(*kilobytes) * 1024;
  const long pages = sysconf(_SC_PHYS_PAGES);
  return pages > 0 ? static_cast<size_t>(pages) * page_size() : kUnlimited;
}

struct CgroupFiles {
  const char* limit;
  const char* usage;
  std::array<std::string_view, 2>
      reclaimable;  // fields of memory.stat: cached file pages, given back when needed
};

constexpr CgroupFiles kCgroupV1 = {
    "memory.limit_in_bytes", "memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}};
constexpr CgroupFiles kCgroupV2 = {"memory.max", "memory.current", {"inactive_file", "active_file"}};

size_t group_available(const std::filesystem::path& group, const CgroupFiles& files) {
  const auto limit = read_number(group / files.limit);
  const auto usage = read_number(group / files.usage);
  if (!limit || !usage) return kUnlimited;
  uint64_t used = *usage;
  for (const std::string_view field : files.reclaimable) {
    used -= std::min(used, read_field(group / "memory.stat", field).value_or(0));
  }
  return difference_or_zero(*limit, used);
}

// A group is also held to the limits of those it lies in.
size_t hierarchy_available(const std::filesystem::path& mount, std::filesystem::path group,
                           const CgroupFiles& files) {
  size_t available = group_available(mount, files);
  for (group = group.relative_path(); !group.empty(); group = group.parent_path()) {
    available = std::min(available, group_available(mount / group, files));
  }
  return available;
}

// Lines are "id:controllers:/path"; version 2 has id 0 and no controllers.
size_t cgroup_available() {
  size_t available = kUnlimited;
  const std::string file = read_kernel_file("/proc/self/cgroup");
  for (std::string_view text = file; !text.empty();) {
    const std::string_view line = next_line(text);
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = concat(",", line.substr(first + 1, second - first - 1), ",");
    const std::string_view group = line.substr(second + 1);
    if (controllers == ",,") {
      available = std::min(available, hierarchy_available("/sys/fs/cgroup", group, kCgroupV2));
    } else if (controllers.find(",memory,") != std::string::npos) {
      available = std::min(available, hierarchy_available("/sys/fs/cgroup/memory", group, kCgroupV1));
    }
  }
  return available;
}

size_t address_space_available() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnlimited;
  const uint64_t pages = read_number("/proc/self/statm").value_or(0);
  return difference_or_zero(limit.rlim_cur, pages * page_size());
}

[[noreturn]] void refuse(size_t bytes, std::string_view what) {
  fail(ErrorKind::out_of_memory, "not enough memory for ", what, ": needs ", format_bytes(bytes),
       ", available ", format_bytes(available_memory()), "; free some memory or ask for less");
}

std::shared_ptr<std::byte> map_zeroed(size_t bytes, std::string_view what) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) refuse(bytes, what);
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return {static_cast<std::byte*>(memory), [bytes](std::byte* start) { munmap(start, bytes); }};
}

std::shared_ptr<std::byte> heap_zeroed(size_t bytes, std::string_view what) {
  const size_t rounded = std::max(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  void* memory = std::aligned_alloc(kAlignment, rounded);
  if (memory == nullptr) refuse(bytes, what);
  std::memset(memory, 0, rounded);
  return {static_cast<std::byte*>(memory), [](std::byte* start) { std::free(start); }};
}

}  // namespace

size_t available_memory() {
  return std::min({system_available(), cgroup_available(), address_space_available()});
}

size_t peak_resident_memory() {
  return static_cast<size_t>(read_field("/proc/self/status", "VmHWM:").value_or(0)) * 1024;
}

std::shared_ptr<std::byte> allocate_zeroed(size_t bytes, std::string_view what) {
  if (bytes > kCheckedThreshold && bytes > available_memory()) refuse(bytes, what);
  return bytes >= kHugePageThreshold ? map_zeroed(bytes, what) : heap_zeroed(bytes, what);
}

void release_pages(std::span<const std::byte> bytes) {
  const uintptr_t page = page_size();
  const auto address = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t first = (address + page - 1) / page * page;
  const uintptr_t last = (address + bytes.size()) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

std::string format_bytes(size_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return concat(bytes, " B");
  size_t tenth = 100;  // of the unit
  size_t unit = 0;
  const auto rounded = [&] { return bytes / tenth + (bytes % tenth >= tenth / 2 ? 1 : 0); };
  while (rounded() >= 10000 && unit + 1 < kUnits.size()) {
    tenth *= 1000;
    ++unit;
  }
  return concat(rounded() / 10, ".", rounded() % 10, " ", kUnits[unit]);
}

}  // namespace bdh
