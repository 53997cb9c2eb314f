// A registry of models and their versions: reads and writes the JSON file, orders versions, keeps `latest`.
#include "tools/registry/registry.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <iomanip>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxRegistryBytes = 64'000'000;
constexpr size_t kMaxNameBytes = 200;
constexpr std::string_view kLatest = "latest";
constexpr std::string_view kDigits = "0123456789";

// --- versions

struct Version {
  std::vector<std::string_view> numbers;      // without leading zeros: "" is 0
  std::vector<std::string_view> pre_release;  // empty for a release
};

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t start = 0;;) {
    const size_t end = std::min(text.find(separator, start), text.size());
    parts.push_back(text.substr(start, end - start));
    if (end == text.size()) return parts;
    start = end + 1;
  }
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of(kDigits) == std::string_view::npos;
}

bool is_identifier(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), allowed);
}

/// Cuts `text` before the first `mark` and returns what stood after it; nothing when there is none.
std::optional<std::string_view> cut(std::string_view& text, char mark) {
  const size_t at = text.find(mark);
  if (at == std::string_view::npos) return {};
  const std::string_view tail = text.substr(at + 1);
  text = text.substr(0, at);
  return tail;
}

bool are_identifiers(const std::optional<std::string_view>& text) {
  if (!text) return true;
  const auto parts = split(*text, '.');
  return std::all_of(parts.begin(), parts.end(), is_identifier);
}

std::optional<Version> parse_version(std::string_view text) {
  if (text.starts_with('v')) text.remove_prefix(1);
  const auto build = cut(text, '+');
  const auto pre_release = cut(text, '-');
  if (!are_identifiers(build) || !are_identifiers(pre_release)) return {};
  Version version;
  version.numbers = split(text, '.');
  if (!std::all_of(version.numbers.begin(), version.numbers.end(), is_number)) return {};
  for (std::string_view& number : version.numbers)
    number.remove_prefix(std::min(number.find_first_not_of('0'), number.size()));
  if (pre_release) version.pre_release = split(*pre_release, '.');
  return version;
}

template <class Value>
int compare(const Value& a, const Value& b) {
  return a < b ? -1 : (b < a ? 1 : 0);
}

/// Of any length, without leading zeros.
int compare_numbers(std::string_view a, std::string_view b) {
  return a.size() != b.size() ? compare(a.size(), b.size()) : compare(a, b);
}

/// Numbers come before words.
int compare_identifiers(std::string_view a, std::string_view b) {
  if (is_number(a) != is_number(b)) return is_number(a) ? -1 : 1;
  if (!is_number(a)) return compare(a, b);
  a.remove_prefix(std::min(a.find_first_not_of('0'), a.size()));
  b.remove_prefix(std::min(b.find_first_not_of('0'), b.size()));
  return compare_numbers(a, b);
}

/// Missing numbers are 0: v1 is v1.0.
int compare_releases(const Version& a, const Version& b) {
  const auto number = [](const Version& v, size_t i) {
    return i < v.numbers.size() ? v.numbers[i] : std::string_view();
  };
  for (size_t i = 0; i < std::max(a.numbers.size(), b.numbers.size()); ++i)
    if (const int order = compare_numbers(number(a, i), number(b, i))) return order;
  return 0;
}

int compare_pre_releases(const Version& a, const Version& b) {
  if (a.pre_release.empty() || b.pre_release.empty())
    return compare(a.pre_release.empty(), b.pre_release.empty());
  for (size_t i = 0; i < std::min(a.pre_release.size(), b.pre_release.size()); ++i)
    if (const int order = compare_identifiers(a.pre_release[i], b.pre_release[i])) return order;
  return compare(a.pre_release.size(), b.pre_release.size());
}

/// A total order: versions of equal precedence (1.0 and v1.0) by their bytes.
bool older(const RegistryEntry& a, const RegistryEntry& b) {
  const int order = compare_versions(a.version, b.version);
  return order != 0 ? order < 0 : a.version < b.version;
}

// --- the file

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

/// A name or version stands for itself on a command line and never leads out of a directory.
bool is_plain(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes && text != "." && text != ".." && text[0] != '-' &&
         text.find_first_of("/\\:") == std::string_view::npos && !has_control(text);
}

[[noreturn]] void fail_entry(const fs::path& file, std::string_view name, std::string_view version,
                             std::string_view reason) {
  fail(ErrorKind::bad_file, file.string(), ": model ", printable(name), ", version ", printable(version),
       ": ", reason, "; correct the file");
}

std::string required_string(const fs::path& file, const std::string& name, const std::string& version,
                            const Json& entry, const char* key, const char* fallback) {
  const Json* value = entry.find(key);
  if (!value && fallback) return fallback;
  if (!value || !value->is_string() || value->as_string().empty() || has_control(value->as_string()))
    fail_entry(file, name, version, concat(key, " must be a text without control characters"));
  return value->as_string();
}

RegistryEntry entry_of(const fs::path& file, const std::string& name, const std::string& version,
                       const Json& json) {
  if (!is_plain(version))
    fail_entry(file, name, version, "a version must not be empty or hold / \\ : or control characters");
  if (!json.is_object()) fail_entry(file, name, version, "must be an object with path and metadata");
  RegistryEntry entry{name, version, required_string(file, name, version, json, "path", nullptr),
                      Json::Object{}, required_string(file, name, version, json, "registered_at", "unknown")};
  if (const Json* metadata = json.find("metadata")) entry.metadata = *metadata;
  if (!entry.metadata.is_object()) fail_entry(file, name, version, "metadata must be an object");
  return entry;
}

std::vector<RegistryEntry> entries_of(const fs::path& file, const Json& registry) {
  std::vector<RegistryEntry> entries;
  for (const auto& [name, versions] : registry.as_object()) {
    if (!is_plain(name))
      fail(ErrorKind::bad_file, file.string(), ": model ", printable(name),
           ": a name must not be empty, start with - or hold / \\ : or control characters; correct the file");
    if (!versions.is_object())
      fail(ErrorKind::bad_file, file.string(), ": model ", printable(name),
           ": must be an object with an entry for each version; correct the file");
    for (const auto& [version, json] : versions.as_object())
      entries.push_back(entry_of(file, name, version, json));
  }
  std::sort(entries.begin(), entries.end(), [](const RegistryEntry& a, const RegistryEntry& b) {
    return a.name != b.name ? a.name < b.name : older(a, b);
  });
  return entries;
}

Json read_registry(const fs::path& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return Json::Object{};
  Json registry = Json::parse(read_text(file, kMaxRegistryBytes), file.string());
  if (!registry.is_object())
    fail(ErrorKind::bad_file, file.string(), ": must be an object with an entry for each model");
  return registry;
}

/// Held by one process or thread at a time, on a file that is never replaced.
class Lock {
 public:
  explicit Lock(const fs::path& file) : path_(file.string() + ".lock") {
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0) refuse(errno);
    if (::flock(descriptor_, LOCK_EX) == 0) return;
    const int error = errno;
    ::close(descriptor_);
    if (error == EINTR) fail(ErrorKind::cancelled, "interrupted while waiting for ", path_.string());
    refuse(error);
  }
  ~Lock() { ::close(descriptor_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  [[noreturn]] void refuse(int error) const {
    fail(ErrorKind::io, "cannot lock ", path_.string(), ": ", std::generic_category().message(error),
         "; choose a registry in a directory you may write to");
  }
  fs::path path_;
  int descriptor_ = -1;
};

void write_registry(const fs::path& file, const Json& registry) {
  AtomicFile out(file);
  out.write(registry.dump(2) + "\n");
  out.commit();
}

/// UTC, as Python's datetime.fromisoformat reads it.
std::string now() {
  const auto time = std::chrono::system_clock::now();
  const auto microseconds =
      std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count() % 1'000'000;
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::ostringstream text;
  text << std::put_time(&utc, "%Y-%m-%dT%H:%M:%S.") << std::setw(6) << std::setfill('0') << microseconds
       << "+00:00";
  return text.str();
}

fs::path directory_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

/// The path as the file keeps it: readers find a relative one from the registry's directory.
fs::path stored_path(const fs::path& file, const fs::path& path) {
  std::error_code ignored;
  const bool beside = fs::equivalent(directory_of(file), ".", ignored);
  return path.is_absolute() || beside ? path : fs::absolute(path).lexically_normal();
}

// --- the link

/// The directory NAME of a path with NAME/VERSION in it; nothing when there is none.
std::optional<fs::path> versions_directory(const fs::path& path, const RegistryEntry& entry) {
  fs::path before;
  std::optional<fs::path> found;
  for (const fs::path& part : path) {
    if (part == entry.version && before.filename() == entry.name) found = before;
    before /= part;
  }
  return found;
}

/// A name that no other call uses, in the same directory.
fs::path temporary_link(const fs::path& directory) {
  static std::atomic<unsigned> counter = 0;
  return directory / concat(".", kLatest, "-", ::getpid(), "-", counter++, ".tmp");
}

/// Replaces the link at once, so that a reader finds the old one or the new one. Returns warnings.
std::vector<std::string> point_link(const fs::path& directory, const std::string& version) {
  const fs::path link = directory / kLatest, temporary = temporary_link(directory);
  std::error_code error;
  const fs::file_status status = fs::symlink_status(link, error);
  if (fs::exists(status) && !fs::is_symlink(status))
    return {concat(link.string(), " is no link, so it was left as it is")};
  fs::create_directory_symlink(version, temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (!error) return {};
  std::error_code ignored;
  fs::remove(temporary, ignored);
  return {concat("cannot set the link ", link.string(), ": ", error.message())};
}

void remove_link(const fs::path& directory) {
  const fs::path link = directory / kLatest;
  std::error_code ignored;
  if (fs::is_symlink(fs::symlink_status(link, ignored))) fs::remove(link, ignored);
}

/// Points `latest` beside the entry to the newest version that lies there, or removes it with the last.
std::vector<std::string> update_link(const ModelRegistry& registry, const std::vector<RegistryEntry>& entries,
                                     const RegistryEntry& changed) {
  const auto directory = versions_directory(registry.locate(changed), changed);
  if (!directory) return {};
  const RegistryEntry* newest = nullptr;
  for (const RegistryEntry& entry : entries)
    if (entry.name == changed.name && versions_directory(registry.locate(entry), entry) == directory)
      newest = &entry;
  if (newest) return point_link(*directory, newest->version);
  remove_link(*directory);
  return {};
}

}  // namespace

int compare_versions(std::string_view a, std::string_view b) {
  const std::optional<Version> left = parse_version(a), right = parse_version(b);
  if (!left && !right) return compare(a, b);
  if (!left || !right) return left ? 1 : -1;
  const int order = compare_releases(*left, *right);
  return order != 0 ? order : compare_pre_releases(*left, *right);
}

bool is_version(std::string_view text) { return is_plain(text) && parse_version(text).has_value(); }

std::string default_registry() {
  const char* variable = std::getenv("BDH_REGISTRY");
  return variable && *variable ? variable : "./model_registry.json";
}

ModelRegistry::ModelRegistry(fs::path file) : file_(std::move(file)) {}

fs::path ModelRegistry::locate(const RegistryEntry& entry) const {
  const fs::path path = entry.path;
  const fs::path directory = file_.parent_path();
  return path.is_absolute() || directory.empty() || directory == "." ? path : directory / path;
}

std::vector<std::string> ModelRegistry::add(const std::string& name, const std::string& version,
                                            const fs::path& path, const Json& metadata) {
  if (!is_plain(name))
    fail(ErrorKind::invalid_argument,
         "a model's name must not be empty, start with - or hold / \\ : or control "
         "characters, as ",
         printable(name), " does");
  if (!is_version(version))
    fail(ErrorKind::invalid_argument, printable(version),
         " is no version; it must look like 1, v1.0 or 1.2.3-rc.1");
  if (!metadata.is_object()) fail(ErrorKind::invalid_argument, "metadata must be a JSON object");
  if (has_control(path.string()))
    fail(ErrorKind::invalid_argument, "the path ", printable(path.string()), " holds control characters");
  std::error_code ignored;
  if (!fs::is_directory(path, ignored))
    fail(ErrorKind::not_found, "no such directory: ", printable(path.string()),
         "; save the model there, then register it");
  const RegistryEntry entry{name, version, stored_path(file_, path).string(), metadata, now()};

  const Lock lock(file_);
  Json registry = read_registry(file_);
  entries_of(file_, registry);
  Json versions = registry.find(name) ? *registry.find(name) : Json(Json::Object{});
  Json json = Json::Object{};
  json.set("path", entry.path).set("metadata", metadata).set("registered_at", entry.registered_at);
  versions.set(version, std::move(json));
  registry.set(name, std::move(versions));
  write_registry(file_, registry);
  return update_link(*this, entries_of(file_, registry), entry);
}

std::vector<RegistryEntry> ModelRegistry::list() const { return entries_of(file_, read_registry(file_)); }

RegistryEntry ModelRegistry::find(std::string_view name, std::string_view version) const {
  std::vector<RegistryEntry> entries = list();
  std::erase_if(entries, [&](const RegistryEntry& entry) { return entry.name != name; });
  if (entries.empty())
    fail(ErrorKind::not_found, file_.string(), " has no model ", printable(name),
         "; `bdh models list` shows those it has");
  if (version == kLatest) return entries.back();
  for (const RegistryEntry& entry : entries)
    if (entry.version == version) return entry;
  for (const RegistryEntry& entry : entries)
    if (is_version(version) && compare_versions(entry.version, version) == 0) return entry;
  fail(ErrorKind::not_found, file_.string(), ": model ", printable(name), " has no version ",
       printable(version), "; its newest is ", entries.back().version);
}

RegistryEntry ModelRegistry::named(std::string_view which) const {
  const size_t colon = which.find(':');
  return colon == std::string_view::npos ? find(which)
                                         : find(which.substr(0, colon), which.substr(colon + 1));
}

std::vector<std::string> ModelRegistry::remove(std::string_view name, std::string_view version) {
  const Lock lock(file_);
  const RegistryEntry entry = find(name, version);
  const Json registry = read_registry(file_);
  Json kept = Json::Object{};
  for (const auto& [model, versions] : registry.as_object()) {
    Json left = Json::Object{};
    for (const auto& [other, json] : versions.as_object())
      if (model != entry.name || other != entry.version) left.set(other, json);
    if (model != entry.name || !left.as_object().empty()) kept.set(model, std::move(left));
  }
  write_registry(file_, kept);
  return update_link(*this, entries_of(file_, kept), entry);
}

}  // namespace bdh::tools
