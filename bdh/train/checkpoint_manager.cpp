// The checkpoints of a run: a thread that writes them, links for further names, and what is deleted after a
// write.
#include "bdh/train/checkpoint_manager.h"

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kAny = "checkpoint_", kStep = "checkpoint_step_", kEpoch = "checkpoint_epoch_",
                           kBest = "checkpoint_best_", kLatest = "checkpoint_latest";
constexpr std::string_view kTensors = ".safetensors", kMeta = ".meta.json";
constexpr size_t kLongestMetric = 100;

using Warnings = std::vector<std::string>;

void require_metric_name(const std::string& metric) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  if (metric.size() <= kLongestMetric && metric.find_first_not_of(kAllowed) == metric.npos) return;
  fail(ErrorKind::invalid_argument, "metric ", printable(metric),
       " cannot be part of a checkpoint's name; use letters, digits, '_', '.' and '-', at most ",
       kLongestMetric);
}

fs::path file_of(const fs::path& folder, std::string_view name) { return folder / concat(name, kTensors); }

bool has_number(const CheckpointEntry& entry) {
  return entry.name.starts_with(kStep) || entry.name.starts_with(kEpoch);
}

// Those in the folder that end so, without the ending.
std::vector<std::string> names_ending_in(const fs::path& folder, std::string_view ending) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kAny) && name.ends_with(ending))
      names.push_back(name.substr(0, name.size() - ending.size()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

CheckpointEntry entry_of(const fs::path& folder, const std::string& name) {
  CheckpointEntry entry;
  entry.name = name;
  entry.file = file_of(folder, name);
  std::error_code ignored;
  const auto bytes = fs::file_size(entry.file, ignored);
  entry.bytes = ignored ? 0 : bytes;
  try {
    CheckpointHeader header = read_checkpoint_header(entry.file);
    entry.state = std::move(header.state);
    entry.metric = header.metric;
  } catch (const Error& error) {
    entry.problem = error.what();
  }
  return entry;
}

// "" where it is whole.
std::string problem_of(const fs::path& file) {
  try {
    read_checkpoint(file);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

void remove_checkpoint(const fs::path& file) {
  fs::remove(file);
  fs::remove(meta_file_of(file));
}

// ---- what is kept ----

// A content that has names with a number.
struct Numbered {
  FileIdentity identity;
  std::vector<const CheckpointEntry*> entries;
  bool usable = false;  // whole, and of this run's past
  int64_t step() const { return entries.front()->state.step; }
  std::optional<double> metric() const { return entries.front()->metric; }
};

// Steps past `now` belong to a run that was taken back to an earlier checkpoint.
std::vector<Numbered> numbered(const std::vector<CheckpointEntry>& entries, int64_t now) {
  std::map<FileIdentity, Numbered> contents;
  for (const CheckpointEntry& entry : entries) {
    if (!has_number(entry)) continue;
    const FileIdentity identity = identity_of(entry.file);
    Numbered& content = contents[identity];
    content.identity = identity;
    content.entries.push_back(&entry);
    content.usable = entry.problem.empty() && entry.state.step <= now;
  }
  std::vector<Numbered> all;
  for (auto& [identity, content] : contents) all.push_back(std::move(content));
  return all;
}

// The best first, as many as `top`, then the newest.
void sort_by_worth(std::vector<Numbered>& all, const CheckpointLimits& limits) {
  const auto has_metric = [](const Numbered& content) {
    return content.usable && content.metric() && *content.metric() == *content.metric();
  };
  const auto better = [&](const Numbered& a, const Numbered& b) {
    if (has_metric(a) != has_metric(b)) return has_metric(a);
    if (!has_metric(a) || *a.metric() == *b.metric()) return a.step() < b.step();
    return (*a.metric() > *b.metric()) == limits.greater_is_better;
  };
  std::sort(all.begin(), all.end(), better);
  const auto with_metric = std::count_if(all.begin(), all.end(), has_metric);
  std::sort(all.begin() + std::min<int64_t>(with_metric, limits.top), all.end(),
            [](const Numbered& a, const Numbered& b) {
              return a.usable != b.usable ? a.usable : a.step() > b.step();
            });
}

// The best and the latest stay, whatever the limits.
std::set<FileIdentity> untouchable(const std::vector<CheckpointEntry>& entries) {
  std::set<FileIdentity> all;
  for (const CheckpointEntry& entry : entries)
    if (!has_number(entry)) all.insert(identity_of(entry.file));
  return all;
}

void clean_up(const fs::path& folder, const CheckpointLimits& limits, int64_t now) {
  if (limits.total <= 0) return;
  const std::vector<CheckpointEntry> entries = list_checkpoints(folder);
  std::set<FileIdentity> contents = untouchable(entries);
  std::vector<Numbered> all = numbered(entries, now);
  sort_by_worth(all, limits);
  int64_t kept = 0;
  for (const Numbered& content : all) {
    const bool costs = !contents.contains(content.identity);
    const bool fits = !costs || static_cast<int64_t>(contents.size()) < std::max<int64_t>(limits.total, 2);
    if (kept < limits.total && fits) {
      ++kept;
      contents.insert(content.identity);
    } else {
      for (const CheckpointEntry* entry : content.entries) remove_checkpoint(entry->file);
    }
  }
}

// ---- how one is written ----

// checkpoint_latest is the last: a run that is killed before goes on from the one before, and writes the
// others again.
std::vector<std::string> names_of(const Checkpoint& checkpoint, const CheckpointNames& names) {
  std::vector<std::string> all;
  if (names.step) all.push_back(concat(kStep, checkpoint.state.step));
  if (names.epoch) all.push_back(concat(kEpoch, checkpoint.state.epoch));
  if (!names.best.empty()) all.push_back(concat(kBest, names.best));
  all.emplace_back(kLatest);
  return all;
}

void add_name(const fs::path& folder, const std::string& first, const std::string& name,
              const Checkpoint& checkpoint) {
  const fs::path file = file_of(folder, name);
  if (link_file(file_of(folder, first), file)) return update_meta_file(file);
  write_checkpoint(file, checkpoint);
}

}  // namespace

struct CheckpointManager::Writer {
  Writer(fs::path where, CheckpointLimits how_many) : folder(std::move(where)), limits(how_many) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
      fail(ErrorKind::io, "cannot make ", folder.string(), ": ", error.message(),
           "; choose a directory you may write to");
    }
    remove_abandoned_files(folder);
    attempt([this] { repair(); });
  }

  ~Writer() { wait(); }

  void wait() {
    if (thread.joinable()) thread.join();
  }

  /// A write that was killed may have left a .meta.json behind or without its checkpoint, and old
  /// checkpoints.
  void repair() const {
    for (const std::string& name : names_ending_in(folder, kMeta))
      if (!fs::exists(file_of(folder, name))) fs::remove(meta_file_of(file_of(folder, name)));
    std::vector<CheckpointEntry> entries = list_checkpoints(folder);
    std::erase_if(entries, [](const CheckpointEntry& entry) { return !entry.problem.empty(); });
    if (entries.empty()) return;
    for (const CheckpointEntry& entry : entries) update_meta_file(entry.file);
    const fs::path latest = file_of(folder, kLatest);
    if (!fs::exists(latest) && link_file(entries.back().file, latest)) update_meta_file(latest);
    const auto is_latest = [](const CheckpointEntry& entry) { return entry.name == kLatest; };
    const auto found = std::find_if(entries.begin(), entries.end(), is_latest);
    clean_up(folder, limits, found == entries.end() ? entries.back().state.step : found->state.step);
  }

  /// Whatever is thrown becomes a problem to be told.
  template <class Work>
  bool attempt(const Work& work) {
    try {
      work();
      return true;
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex);
      problems.emplace_back(error.what());
      return false;
    }
  }

  void write(const Checkpoint& checkpoint, const std::vector<std::string>& names) {
    const std::string& first = names.front();
    if (!attempt([&] { write_checkpoint(file_of(folder, first), checkpoint); })) return;
    attempt([&] {
      for (size_t i = 1; i < names.size(); ++i) add_name(folder, first, names[i], checkpoint);
    });
    attempt([&] { clean_up(folder, limits, checkpoint.state.step); });
  }

  fs::path folder;
  CheckpointLimits limits;
  std::thread thread;
  std::mutex mutex;
  Warnings problems;
};

CheckpointManager::CheckpointManager(fs::path folder, CheckpointLimits limits)
    : writer_(std::make_unique<Writer>(std::move(folder), limits)) {}

CheckpointManager::~CheckpointManager() = default;

void CheckpointManager::save(Checkpoint checkpoint, const CheckpointNames& names) {
  require_metric_name(names.best);
  checkpoint.metric = names.metric;
  const std::vector<std::string> all = names_of(checkpoint, names);
  writer_->wait();
  const auto write = [writer = writer_.get(), all,
                      taken = std::make_shared<const Checkpoint>(std::move(checkpoint))] {
    writer->write(*taken, all);
  };
  try {
    writer_->thread = std::thread(write);
  } catch (const std::system_error&) {  // no thread is to be had
    write();
  }
}

Warnings CheckpointManager::wait() {
  writer_->wait();
  return problems();
}

Warnings CheckpointManager::problems() {
  const std::lock_guard lock(writer_->mutex);
  return std::exchange(writer_->problems, {});
}

std::optional<fs::path> CheckpointManager::latest(Warnings* warnings) const {
  return latest_checkpoint(writer_->folder, warnings);
}

std::optional<fs::path> CheckpointManager::best() const { return best_checkpoint(writer_->folder); }

std::vector<CheckpointEntry> list_checkpoints(const fs::path& folder, bool verify) {
  std::vector<CheckpointEntry> entries;
  std::map<FileIdentity, std::string> verified;
  for (const std::string& name : names_ending_in(folder, kTensors)) {
    CheckpointEntry entry = entry_of(folder, name);
    if (verify && entry.problem.empty()) {
      const auto [place, is_new] = verified.try_emplace(identity_of(entry.file));
      if (is_new) place->second = problem_of(entry.file);
      entry.problem = place->second;
    }
    entries.push_back(std::move(entry));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const CheckpointEntry& a, const CheckpointEntry& b) {
    if (a.problem.empty() != b.problem.empty()) return a.problem.empty();
    return a.state.step < b.state.step;
  });
  return entries;
}

std::optional<fs::path> latest_checkpoint(const fs::path& folder, Warnings* warnings) {
  std::vector<CheckpointEntry> entries = list_checkpoints(folder);
  std::reverse(entries.begin(), entries.end());
  std::stable_partition(entries.begin(), entries.end(),
                        [](const CheckpointEntry& entry) { return entry.name == kLatest; });
  const auto tell = [&](const std::string& line) {
    if (warnings) warnings->push_back(line);
  };
  for (const CheckpointEntry& entry : entries) {
    const std::string problem = entry.problem.empty() ? problem_of(entry.file) : entry.problem;
    if (!problem.empty()) {
      tell(problem);
      continue;
    }
    if (entry.name != kLatest)
      tell(concat(folder.string(), ": ", kLatest, " is missing or damaged; the newest whole checkpoint is ",
                  entry.name));
    return entry.file;
  }
  return {};
}

std::optional<fs::path> best_checkpoint(const fs::path& folder) {
  std::optional<fs::path> best;
  for (const CheckpointEntry& entry : list_checkpoints(folder))
    if (entry.name.starts_with(kBest) && entry.problem.empty()) best = entry.file;
  return best;
}

}  // namespace bdh
