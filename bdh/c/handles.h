// What the C API's files share: what its handles hold, statuses made of exceptions, and checks of what C
// gives.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/bdh_c.h"
#include "bdh/pretrained/model.h"

struct bdh_model {
  std::shared_ptr<const bdh::Model> model;
};

struct bdh_session {
  std::shared_ptr<const bdh::Model> model;
  bdh::Session session;
  bdh::Continuation text = {};  // where its generated text stands
  bool own_horizon = false;     // bdh_session_set_horizon was called
};

namespace bdh::c {

/// The status of the exception that is being handled, whose words bdh_last_error then has.
bdh_status status_of_exception();

/// Runs `action`; no exception leaves it.
template <class Action>
bdh_status guarded(const Action& action) {
  try {
    action();
    return BDH_OK;
  } catch (...) {
    return status_of_exception();
  }
}

/// Throws Error(invalid_argument) for NULL.
void require(const void* pointer, const char* name);
/// Throws Error(invalid_argument) unless a struct has the size that this library knows.
void require_size(size_t size, size_t known, const char* name);

/// `value` into the caller's struct of that size.
template <class Struct>
void give(const Struct& value, Struct* to, size_t size, const char* name) {
  require(to, name);
  require_size(size, sizeof(Struct), name);
  *to = value;
}

/// As much of `from` as there is room for; *count: how much there is.
template <class Element>
void copy_out(std::span<const Element> from, Element* to, size_t capacity, size_t* count) {
  require(count, "the last argument");
  if (capacity > 0) require(to, "the output");
  *count = from.size();
  std::copy_n(from.begin(), std::min(capacity, from.size()), to);
}

void copy_text(std::string_view from, char* to, size_t capacity, size_t* length);

/// Throws Error(unsupported) where the model has none.
const Tokenizer& tokenizer_of(const Model& model);

}  // namespace bdh::c
