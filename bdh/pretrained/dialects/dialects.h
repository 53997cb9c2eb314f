// The dialects: what public repositories call the tensors of a BDH model, and how each is brought to the
// reference's names and shapes.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>

#include "bdh/base/json.h"
#include "bdh/base/tensor.h"

namespace bdh {

/// A state_dict on its way to the reference's names.
struct Translation {
  TensorMap tensors;               // without prefixes
  std::set<std::string> names;     // of the tensors, and of entries that could not be read
  std::set<std::string> prefixes;  // those that were dropped
  Json config;                     // with the reference's keys
  std::string source;              // names the file in errors
};

/// What one family of repositories saves. A newcomer adds a line to the table, and a case to
/// tests/parity/dialects_parity.py.
struct Dialect {
  std::string_view name;     // what it is called here
  std::string_view origin;   // a repository that saves it
  std::string_view tells;    // names of tensors that all must be there, with blanks between
  std::string_view differs;  // what makes it another function; empty: it is the reference's
  void (*translate)(Translation&);
  std::string_view remark = {};  // what a user should know of it
};

/// In the order in which they are tried; the reference's own is the last.
std::span<const Dialect> dialects();

/// The dialect that these tensors are saved in; nullptr when it is none that is known.
const Dialect* dialect_of(const Translation& model);

/// What makes a model with a tensor of that name another function; empty when nothing is known of it.
std::string_view meaning_of_stranger(std::string_view name);

/// Tensors that repositories save beside the parameters, and that change nothing: tables, counters.
bool is_inert(std::string_view name);

}  // namespace bdh
