// Tables and JSON of a report.
#include "bench/report.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "bdh/base/error.h"

namespace bdh::bench {

namespace {

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

// Cells in columns; the first two are text, the others are numbers.
class Table {
 public:
  explicit Table(std::vector<std::string> head) { add(std::move(head)); }
  void add(std::vector<std::string> cells) {
    widths_.resize(std::max(widths_.size(), cells.size()));
    for (size_t i = 0; i < cells.size(); ++i) widths_[i] = std::max(widths_[i], cells[i].size());
    lines_.push_back(std::move(cells));
  }
  bool has_rows() const { return lines_.size() > 1; }
  std::string text() const {
    std::string out;
    for (const auto& cells : lines_) {
      std::string line;
      for (size_t i = 0; i < cells.size(); ++i) {
        const std::string gap(widths_[i] - cells[i].size(), ' ');
        line += (i < 2 ? cells[i] + gap : gap + cells[i]) + "  ";
      }
      out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return out;
  }

 private:
  std::vector<std::vector<std::string>> lines_;
  std::vector<size_t> widths_;
};

std::string section(const std::string& title, const Table& table) {
  return table.has_rows() ? "\n" + title + "\n" + table.text() : "";
}

bool is_shown(const Row& row, Kind kind) { return row.result.of.kind == kind && !row.result.samples.empty(); }

// "12.3 GB/s", "1.23 TFLOP/s"; nothing for no work.
std::string rate(double work, double seconds, const char* unit) {
  if (work == 0 || seconds == 0) return "";
  const double giga = work / seconds / 1e9;
  return giga < 999.5 ? format_number(giga) + " G" + unit : format_number(giga / 1e3) + " T" + unit;
}

std::string byte_rate(const Result& r) { return rate(r.work.bytes + r.work.cached, r.median(), "B/s"); }
std::string flop_rate(const Result& r) { return rate(r.work.flops, r.median(), "FLOP/s"); }
std::string threads_of(const Case& c) { return c.threads > 0 ? std::to_string(c.threads) : ""; }

std::string limits_table(const Report& report) {
  Table table({"limit", "shape", "dtype", "by", "threads", "median", "spread", "bytes", "flops"});
  for (const Row& row : report.rows) {
    if (!is_shown(row, Kind::limit)) continue;
    const Result& r = row.result;
    table.add({r.of.name, r.of.shape, r.of.dtype, r.of.variant, threads_of(r.of), format_seconds(r.median()),
               format_share(r.spread()), byte_rate(r), flop_rate(r)});
  }
  return section("Limits of this machine", table);
}

std::string per_token(const Result& r) { return format_seconds(r.median() / r.work.tokens); }
std::string tokens_per_second(const Result& r) { return format_number(r.work.tokens / r.median()); }

std::string usual_share(const Row& row) { return row.usual_share > 0 ? format_share(row.usual_share) : ""; }

std::string format_peers(const Row& row) {
  std::string text;
  for (const auto& [name, ratio] : row.peers)
    text += concat(text.empty() ? "" : ", ", name, ' ', format_number(ratio), 'x');
  return text;
}

std::string paths_table(const Report& report) {
  Table table({"path", "model", "dtype", "threads", "a token", "spread", "tokens/s", "limit a token",
               "bound by", "share", "by medians", "faster than"});
  for (const Row& row : report.rows) {
    if (!is_shown(row, Kind::path)) continue;
    const Result& r = row.result;
    table.add({r.of.name, r.of.shape, r.of.dtype, threads_of(r.of), per_token(r), format_share(r.spread()),
               tokens_per_second(r), format_seconds(row.bound.seconds / r.work.tokens), row.bound.by,
               format_share(row.share), usual_share(row), format_peers(row)});
  }
  return section("Paths", table);
}

std::string peers_table(const Report& report) {
  Table table({"peer", "model", "dtype", "threads", "a token", "spread", "tokens/s"});
  for (const Row& row : report.rows) {
    if (!is_shown(row, Kind::peer)) continue;
    const Result& r = row.result;
    table.add({r.of.name, r.of.shape, r.of.dtype, threads_of(r.of), per_token(r), format_share(r.spread()),
               tokens_per_second(r)});
  }
  return section("Peers, with the same parameters and tokens", table);
}

bool same_kernel(const Case& a, const Case& b) {
  return a.kind == b.kind && a.name == b.name && a.shape == b.shape && a.dtype == b.dtype &&
         a.threads == b.threads;
}

// The first row of the same kernel: what the others are compared with.
const Row* first_variant(const Report& report, const Row& row) {
  for (const Row& other : report.rows) {
    if (is_shown(other, Kind::kernel) && same_kernel(other.result.of, row.result.of)) return &other;
  }
  return &row;
}

std::string kernels_table(const Report& report) {
  Table table({"kernel", "shape", "dtype", "by", "threads", "median", "spread", "bytes", "flops", "bound by",
               "share", "by medians", "times as long"});
  for (const Row& row : report.rows) {
    if (!is_shown(row, Kind::kernel)) continue;
    const Result& r = row.result;
    const Row* first = first_variant(report, row);
    table.add({r.of.name, r.of.shape, r.of.dtype, r.of.variant, threads_of(r.of), format_seconds(r.median()),
               format_share(r.spread()), byte_rate(r), flop_rate(r), row.bound.by, format_share(row.share),
               usual_share(row),
               first == &row ? "" : format_number(r.median() / first->result.median()) + "x"});
  }
  return section("Kernels", table);
}

// What is wrong with the row's share; "" where nothing is.
std::string impossible_share(const Row& row) {
  const Work& work = row.result.work;
  const double done = work.flops > 0 ? 1 - work.zeros / work.flops : 1;
  if (row.share * done <= kMostShare) return "";
  return concat(format_share(row.share), " of its limit (", row.bound.by,
                "): that limit is too low, or less work was done than is counted");
}

std::string failures(const Report& report) {
  std::string text;
  for (const Row& row : report.rows) {
    if (!row.result.error.empty())
      text += concat("\nnot measured: ", row.result.of.id(), ": ", row.result.error);
  }
  for (const std::string& line : impossible_shares(report)) text += "\nimpossible: " + line;
  return text.empty() ? "" : text + "\n";
}

std::string heading(const Report& report) {
  std::string text;
  for (const std::string& line : report.heading) text += line + "\n";
  return concat(text, report.date, "; peer: ", report.peer, "\n");
}

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::limit:
      return "limit";
    case Kind::kernel:
      return "kernel";
    case Kind::path:
      return "path";
    default:
      return "peer";
  }
}

Json json_of(const Row& row) {
  const Result& r = row.result;
  Json::Array samples;
  for (const double sample : r.samples) samples.emplace_back(sample);
  Json::Object object{{"kind", name_of(r.of.kind)},
                      {"name", r.of.name},
                      {"shape", r.of.shape},
                      {"dtype", r.of.dtype},
                      {"variant", r.of.variant},
                      {"threads", r.of.threads},
                      {"seconds", std::move(samples)},
                      {"median", r.median()},
                      {"spread", r.spread()},
                      {"bytes", r.work.bytes},
                      {"written_bytes", r.work.written},
                      {"cached_bytes", r.work.cached},
                      {"flops", r.work.flops},
                      {"working_set", r.work.working_set},
                      {"tokens", r.work.tokens}};
  const std::string error = r.error.empty() ? impossible_share(row) : r.error;
  if (!error.empty()) object.emplace_back("error", error);
  if (row.share > 0) {
    object.emplace_back("limit", row.bound.seconds);
    object.emplace_back("limit_by", row.bound.by);
    object.emplace_back("share", row.share);
    if (row.usual_share > 0) object.emplace_back("share_by_medians", row.usual_share);
  }
  Json::Object peers;
  for (const auto& [name, ratio] : row.peers) peers.emplace_back(name, ratio);
  if (!peers.empty()) object.emplace_back("faster_than", std::move(peers));
  for (const auto& [name, value] : r.details) object.emplace_back(name, value);
  return object;
}

std::vector<std::pair<std::string, double>> peers_of(const Result& result,
                                                     const std::vector<Result>& results) {
  std::vector<std::pair<std::string, double>> peers;
  const auto& wanted = result.of.peers;
  for (const Result& peer : results) {
    if (peer.of.kind != Kind::peer || peer.of.dtype != result.of.dtype) continue;
    if (std::find(wanted.begin(), wanted.end(), peer.of.name) == wanted.end()) continue;
    if (result.samples.empty() || peer.samples.empty()) continue;
    const double ours = result.median() / result.work.tokens, theirs = peer.median() / peer.work.tokens;
    peers.emplace_back(peer.of.name, theirs / ours);
  }
  return peers;
}

}  // namespace

std::string now(const char* pattern) {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[64];
  std::strftime(text, sizeof text, pattern, &parts);
  return text;
}

std::string format_number(double value) {
  return format(value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f", value);
}

std::string format_seconds(double seconds) {
  if (seconds >= 0.9995) return format_number(seconds) + " s";
  if (seconds >= 0.9995e-3) return format_number(seconds * 1e3) + " ms";
  if (seconds >= 0.9995e-6) return format_number(seconds * 1e6) + " us";
  return format_number(seconds * 1e9) + " ns";
}

std::string format_share(double share) { return format(share < 0.0995 ? "%.1f %%" : "%.0f %%", 100 * share); }

std::vector<Row> rows_of(const std::vector<Result>& results,
                         const std::function<Bound(const Result&)>& bound) {
  std::vector<Row> rows;
  for (const Result& result : results) {
    Row row;
    row.result = result;
    row.peers = peers_of(result, results);
    const bool judged = result.of.kind == Kind::kernel || result.of.kind == Kind::path;
    if (judged && result.median() > 0) {
      row.bound = bound(result);
      row.share = row.bound.seconds / result.median();
      row.usual_share = row.bound.usual / result.median();
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<std::string> impossible_shares(const Report& report) {
  std::vector<std::string> lines;
  for (const Row& row : report.rows) {
    const std::string wrong = impossible_share(row);
    if (!wrong.empty()) lines.push_back(concat(row.result.of.id(), ": ", wrong));
  }
  return lines;
}

void require_possible(const Report& report) {
  const std::vector<std::string> wrong = impossible_shares(report);
  if (wrong.empty()) return;
  const std::string others = wrong.size() == 1 ? "" : concat(" (and ", wrong.size() - 1, " more)");
  fail(ErrorKind::bad_file, wrong.front(), others);
}

std::string table_of(const Report& report) {
  std::string text = heading(report) + limits_table(report) + kernels_table(report) + paths_table(report) +
                     peers_table(report) + failures(report);
  for (const std::string& note : report.notes) text += "\n" + note;
  return report.notes.empty() ? text : text + "\n";
}

Json json_of(const Report& report) {
  Json::Array notes, roofs, results;
  for (const std::string& note : report.notes) notes.emplace_back(note);
  for (const Roof& roof : report.roofs)
    roofs.emplace_back(
        Json::Object{{"name", roof.name}, {"unit", roof.flops ? "flops" : "bytes"}, {"rate", roof.rate}});
  for (const Row& row : report.rows) results.push_back(json_of(row));
  return Json::Object{{"date", report.date},          {"device", report.device},
                      {"machine", report.machine},    {"peer", report.peer},
                      {"notes", std::move(notes)},    {"roofs", std::move(roofs)},
                      {"results", std::move(results)}};
}

}  // namespace bdh::bench
