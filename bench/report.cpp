// Tables and JSON of a report.
#include "bench/report.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "bdh/base/error.h"

namespace bdh::bench {

namespace {

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

// Three digits.
std::string format_number(double value) {
  return format(value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f", value);
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

bool is_shown(const Row& row, Kind kind) {
  return row.result->of.kind == kind && !row.result->samples.empty();
}

std::string limits_table(const Report& report) {
  Table table({"limit", "shape", "threads", "median", "spread", "rate"});
  for (const Row& row : report.rows) {
    if (!is_shown(row, Kind::limit)) continue;
    const Result& r = *row.result;
    table.add({r.of.name, r.of.shape, std::to_string(r.of.threads), format_seconds(r.median()),
               format_share(r.spread()), format_rate(row)});
  }
  return section("Limits of this machine", table);
}

std::string per_token(const Result& r) { return format_seconds(r.median() / r.work.tokens); }
std::string tokens_per_second(const Result& r) { return format_number(r.work.tokens / r.median()); }

std::string paths_table(const Report& report) {
  Table table({"path", "model", "dtype", "threads", "a token", "spread", "tokens/s", "limit a token",
               "bound by", "share", "faster than"});
  for (const Row& row : report.rows) {
    if (!is_shown(row, Kind::path)) continue;
    const Result& r = *row.result;
    table.add({r.of.name, r.of.shape, r.of.dtype, std::to_string(r.of.threads), per_token(r),
               format_share(r.spread()), tokens_per_second(r),
               format_seconds(row.bound.seconds / r.work.tokens), row.bound.by, format_share(row.share),
               format_peers(row)});
  }
  return section("Paths", table);
}

std::string peers_table(const Report& report) {
  Table table({"peer", "model", "dtype", "threads", "a token", "spread", "tokens/s"});
  for (const Row& row : report.rows) {
    if (!is_shown(row, Kind::peer)) continue;
    const Result& r = *row.result;
    table.add({r.of.name, r.of.shape, r.of.dtype, std::to_string(r.of.threads), per_token(r),
               format_share(r.spread()), tokens_per_second(r)});
  }
  return section("Peers, with the same parameters and tokens", table);
}

std::string kernel_key(const Case& c) { return concat(c.name, '/', c.shape, '/', c.dtype, '/', c.threads); }

// The same kernel on the instruction sets after the best one.
std::string other_isas(const Report& report, const Row& best) {
  std::string text;
  for (const Row& row : report.rows) {
    if (&row == &best || !is_shown(row, Kind::kernel) ||
        kernel_key(row.result->of) != kernel_key(best.result->of))
      continue;
    text += concat(text.empty() ? "" : ", ", row.result->of.isa, ' ', format_rate(row));
  }
  return text;
}

std::string kernels_table(const Report& report) {
  Table table({"kernel", "shape", "dtype", "threads", "median", "spread", "rate", "bound by", "share",
               "other instruction sets"});
  std::set<std::string> seen;
  std::string isa;
  for (const Row& row : report.rows) {
    if (!is_shown(row, Kind::kernel) || !seen.insert(kernel_key(row.result->of)).second) continue;
    const Result& r = *row.result;
    isa = r.of.isa;
    table.add({r.of.name, r.of.shape, r.of.dtype, std::to_string(r.of.threads), format_seconds(r.median()),
               format_share(r.spread()), format_rate(row), row.bound.by, format_share(row.share),
               other_isas(report, row)});
  }
  return section(concat("Kernels, ", isa), table);
}

std::string failures(const Report& report) {
  std::string text;
  for (const Row& row : report.rows) {
    if (!row.result->error.empty())
      text += concat("\nnot measured: ", row.result->of.id(), ": ", row.result->error);
  }
  return text.empty() ? "" : text + "\n";
}

std::string megabytes(double bytes) {
  return bytes >= 1e6 ? format("%.0f MB", bytes / 1048576) : format("%.0f KB", bytes / 1024);
}

std::string heading(const Report& report) {
  const Machine& m = report.machine;
  return concat(m.processor, ", ", m.cores, m.cores == 1 ? " core" : " cores", ", L1 ", megabytes(m.l1),
                ", L2 ", megabytes(m.l2), ", L3 ", megabytes(m.l3), "; ", report.date,
                "; load before the start ", format("%.2f", m.load), "\n", report.openblas,
                "\npeer: ", report.peer, "\n");
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
  const Result& r = *row.result;
  Json::Array samples;
  for (const double sample : r.samples) samples.emplace_back(sample);
  Json::Object object{{"kind", name_of(r.of.kind)},
                      {"name", r.of.name},
                      {"shape", r.of.shape},
                      {"dtype", r.of.dtype},
                      {"isa", r.of.isa},
                      {"threads", r.of.threads},
                      {"seconds", std::move(samples)},
                      {"median", r.median()},
                      {"bytes", r.work.bytes},
                      {"flops", r.work.flops},
                      {"working_set", r.work.working_set},
                      {"tokens", r.work.tokens}};
  if (!r.error.empty()) object.emplace_back("error", r.error);
  if (row.share > 0) {
    object.emplace_back("limit", row.bound.seconds);
    object.emplace_back("limit_by", row.bound.by);
    object.emplace_back("share", row.share);
  }
  Json::Object peers;
  for (const auto& [name, ratio] : row.peers) peers.emplace_back(name, ratio);
  if (!peers.empty()) object.emplace_back("faster_than", std::move(peers));
  return object;
}

}  // namespace

std::string format_seconds(double seconds) {
  if (seconds >= 0.9995) return format_number(seconds) + " s";
  if (seconds >= 0.9995e-3) return format_number(seconds * 1e3) + " ms";
  if (seconds >= 0.9995e-6) return format_number(seconds * 1e6) + " us";
  return format_number(seconds * 1e9) + " ns";
}

std::string format_rate(const Row& row) {
  const Result& r = *row.result;
  const bool computing = row.bound.by == kSgemm || (r.work.bytes == 0 && r.work.flops > 0);
  return computing ? format_number(r.work.flops / r.median() / 1e9) + " GFLOP/s"
                   : format_number(r.work.bytes / r.median() / 1e9) + " GB/s";
}

std::string format_share(double share) { return format(share < 0.0995 ? "%.1f %%" : "%.0f %%", 100 * share); }

std::string format_peers(const Row& row) {
  std::string text;
  for (const auto& [name, ratio] : row.peers)
    text += concat(text.empty() ? "" : ", ", name, ' ', format_number(ratio), 'x');
  return text;
}

std::vector<Row> rows_of(const std::vector<Result>& results, const Limits& limits) {
  std::vector<Row> rows;
  for (const Result& result : results) {
    Row row{&result, {}, 0, {}};
    if (!result.samples.empty() && (result.of.kind == Kind::kernel || result.of.kind == Kind::path)) {
      row.bound = limits.bound(result.work, result.of.threads);
      row.share = row.bound.seconds / result.median();
    }
    for (const Result& peer : results) {
      const auto& wanted = result.of.peers;
      if (peer.of.kind != Kind::peer || std::find(wanted.begin(), wanted.end(), peer.of.name) == wanted.end())
        continue;
      if (result.samples.empty() || peer.samples.empty()) continue;
      const double ours = result.median() / result.work.tokens, theirs = peer.median() / peer.work.tokens;
      row.peers.emplace_back(peer.of.name, theirs / ours);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string table_of(const Report& report) {
  std::string text = heading(report) + limits_table(report) + kernels_table(report) + paths_table(report) +
                     peers_table(report) + failures(report);
  for (const std::string& note : report.notes) text += "\n" + note;
  return report.notes.empty() ? text : text + "\n";
}

Json json_of(const Report& report) {
  const Machine& m = report.machine;
  Json::Array notes, results;
  for (const std::string& note : report.notes) notes.emplace_back(note);
  for (const Row& row : report.rows) results.push_back(json_of(row));
  Json::Object machine{{"processor", m.processor},
                       {"cores", m.cores},
                       {"l1", m.l1},
                       {"l2", m.l2},
                       {"l3", m.l3},
                       {"load", m.load}};
  return Json::Object{{"date", report.date},         {"machine", std::move(machine)},
                      {"openblas", report.openblas}, {"peer", report.peer},
                      {"notes", std::move(notes)},   {"results", std::move(results)}};
}

}  // namespace bdh::bench
