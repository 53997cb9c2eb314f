// Event files, which TensorBoard reads.
#include "bdh/train/event_file.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <chrono>
#include <optional>
#include <string_view>
#include <system_error>

#include "bdh/base/crc32c.h"
#include "bdh/base/error.h"
#include "bdh/text/utf8.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNameStart = "events.out.tfevents.";

// --- protobuf: a field is its number and type as one varint, then the value

constexpr unsigned kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

template <class Word>
std::string little_endian(Word word) {
  std::string bytes;
  for (size_t i = 0; i < sizeof word; ++i) bytes += static_cast<char>(word >> (8 * i));
  return bytes;
}

std::string tag(unsigned field, unsigned type) { return varint(field << 3 | type); }

std::string number_field(unsigned field, int64_t value) {
  return tag(field, kVarint) + varint(static_cast<uint64_t>(value));
}
std::string double_field(unsigned field, double value) {
  return tag(field, kFixed64) + little_endian(std::bit_cast<uint64_t>(value));
}
std::string float_field(unsigned field, double value) {
  return tag(field, kFixed32) + little_endian(std::bit_cast<uint32_t>(static_cast<float>(value)));
}
std::string bytes_field(unsigned field, std::string_view bytes) {
  return tag(field, kBytes) + varint(bytes.size()) + std::string(bytes);
}

// --- Event and Summary: the numbers of their fields, in event.proto, summary.proto and tensor.proto

constexpr unsigned kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
constexpr unsigned kStatus = 1;                                                    // of SessionLog
constexpr unsigned kValue = 1;                                                     // of Summary
constexpr unsigned kTag = 1, kSimpleValue = 2, kTensor = 8, kMetadata = 9;         // of a value
constexpr unsigned kPluginData = 1, kPluginName = 1;                               // of its metadata
constexpr unsigned kDtype = 1, kShape = 2, kStringValue = 8, kDim = 2, kSize = 1;  // of a tensor
constexpr int64_t kStart = 1, kString = 7;

std::string scalar(std::string_view name, double value) {
  return bytes_field(kValue, bytes_field(kTag, name) + float_field(kSimpleValue, value));
}

std::string optional_scalar(std::string_view name, const std::optional<double>& value) {
  return value ? scalar(name, *value) : "";
}

/// One string, shown as text.
std::string text(std::string_view name, std::string_view words) {
  const std::string metadata = bytes_field(kPluginData, bytes_field(kPluginName, "text"));
  const std::string shape = bytes_field(kDim, number_field(kSize, 1));
  const std::string tensor = number_field(kDtype, kString) + bytes_field(kShape, shape) +
                             bytes_field(kStringValue, valid_utf8(words));
  return bytes_field(
      kValue, bytes_field(kTag, name) + bytes_field(kTensor, tensor) + bytes_field(kMetadata, metadata));
}

// --- records

/// As the format has them: rotated and shifted, so that a checksum of bytes with checksums is no worse.
uint32_t masked_checksum(std::string_view bytes) {
  const uint32_t sum = crc32c(bytes);
  return std::rotr(sum, 15) + 0xa282ead8u;
}

std::string record(double wall_time, const std::string& rest) {
  const std::string event = double_field(kWallTime, wall_time) + rest;
  const std::string length = little_endian(uint64_t{event.size()});
  return length + little_endian(masked_checksum(length)) + event + little_endian(masked_checksum(event));
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// --- the file's name, whose seconds put it behind those that are there

int64_t seconds_in(const std::string& name) {
  int64_t seconds = 0;
  if (name.starts_with(kNameStart))
    std::from_chars(name.data() + kNameStart.size(), name.data() + name.size(), seconds);
  return seconds;
}

std::string host_name() {
  char name[65] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "localhost";
  std::string plain(name);
  std::replace(plain.begin(), plain.end(), '/', '_');
  return plain;
}

fs::path new_file(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  int64_t seconds = static_cast<int64_t>(now());
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    seconds = std::max(seconds, seconds_in(entry->path().filename().string()) + 1);
  if (error)
    fail(ErrorKind::io, "cannot write into '", folder.string(), "': ", error.message(),
         "; choose a directory you may write to");
  return folder / concat(kNameStart, seconds, ".", host_name(), ".", ::getpid(), ".bdh");
}

}  // namespace

std::string version_record(double wall_time) {
  return record(wall_time, bytes_field(kFileVersion, "brain.Event:2"));
}

std::string session_record(double wall_time, int64_t step) {
  return record(wall_time,
                number_field(kStep, step) + bytes_field(kSessionLog, number_field(kStatus, kStart)));
}

std::string metrics_record(double wall_time, const StepMetrics& metrics) {
  std::string summary = scalar("train/loss", metrics.loss) + scalar("train/lr", metrics.rate) +
                        scalar("train/grad_norm", metrics.gradient_norm) +
                        scalar("train/tokens_per_second", metrics.tokens_per_second) +
                        optional_scalar("valid/loss", metrics.valid_loss) +
                        optional_scalar("valid/bits_per_byte", metrics.valid_bits_per_byte) +
                        optional_scalar("valid/ema_loss", metrics.ema_valid_loss);
  if (metrics.sample) summary += text("sample", *metrics.sample);
  return record(wall_time, number_field(kStep, metrics.step) + bytes_field(kSummary, summary));
}

EventFile::EventFile(const fs::path& folder, int64_t step) : file_(new_file(folder)) {
  file_.write(version_record(now()));
  file_.write(session_record(now(), step + 1));
}

void EventFile::add(const StepMetrics& metrics) { file_.write(metrics_record(now(), metrics)); }

}  // namespace bdh
